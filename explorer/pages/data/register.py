"""The form of the Data page that registers a folder of the user's own under a name."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from core.config.run import RunSpec
from core.data.datasets import registered
from core.data.datasets.registered import RegisteredDataset
from core.errors import ConfigurationError, CoreError
from core.workspace import Workspace
from explorer.components.live_region import live
from explorer.templates import error_message, render_macro

COLUMNS = ("path", "patient", "split")
"""Columns that the form asks for by their content; dataset.json may name others."""

IMMEDIATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_serial = itertools.count(1)


class RegisterForm:
    """Fields and handlers of the form.

    Args:
        workspace: Place of the registered names.
        changed: Set to ``{"name": …}`` after a registration, to ``{"name": None}`` after a name
            was removed.
        style: Style sheet of the page.
    """

    def __init__(self, workspace: Workspace, changed: gr.State, style: str) -> None:
        self.workspace = workspace
        with gr.Accordion(
            "Register your own folder under a name",
            open=False,
            elem_classes="cxr-group",
            elem_id="data-register",
        ):
            with gr.Row():
                name = _text("name", "Name", "ward-3")
                root = _text("root", "Folder, on the training machine", "/data/ward", scale=3)
                patient = _text("patient", "Patient in the image path", r"(person\d+)")
            with gr.Row():
                table = _text("table", "Table (CSV)", "the only one")
                columns = [_text(role, f"Column: {role}", "by its name") for role in COLUMNS]
                labels = _text("labels", "Findings", "all, or Edema, Fx=Fracture", scale=2)
            message = live(elem_id="named-said", css_template=style)
            with gr.Row():
                button = gr.Button(
                    "Register", size="sm", elem_id="named-register", scale=0, min_width=140
                )
            names = live(listing(workspace), elem_id="named-list", css_template=style)
        inputs = [name, root, patient, table, labels, *columns]
        outputs = [message, names, changed]
        button.click(self.register, inputs, outputs, **IMMEDIATE)
        name.submit(self.register, inputs, outputs, **IMMEDIATE)
        names.click(self.forget, None, outputs, **IMMEDIATE)

    def register(self, *values: str) -> list[Any]:
        """Register what the fields describe, or show what is wrong."""
        try:
            named = register(self.workspace, *values)
        except CoreError as error:
            return [field_error(error), gr.skip(), gr.skip()]
        gr.Info(f"{named.name}: {named.data.root}", title="Registered", duration=4)
        return self._changed(named.name)

    def forget(self, event: gr.EventData) -> list[Any]:
        """Remove the name whose button was clicked."""
        try:
            registered.forget(self.workspace, str(event._data.get("name")))
        except CoreError as error:
            return [field_error(error), listing(self.workspace), gr.skip()]
        return self._changed(None)

    def _changed(self, name: str | None) -> list[Any]:
        return ["", listing(self.workspace), {"name": name, "serial": next(_serial)}]


def register(
    workspace: Workspace, name: str, root: str, patient: str, table: str, labels: str, *columns: str
) -> RegisteredDataset:
    """Register a folder under a name.

    Args:
        workspace: Place of the registered names.
        name: The name.
        root: The folder.
        patient: Regular expression that finds the patient in an image's path; or empty.
        table: Name of the CSV file; or empty.
        labels: Columns or class folders that are findings; or empty.
        *columns: Names of the columns in ``COLUMNS``; each may be empty.

    Raises:
        CoreError: The name cannot be used, or the folder cannot be opened with these options.
    """
    if not root.strip():
        raise ConfigurationError(
            "No folder is given.", "Type the folder that contains the images.", field="data.root"
        )
    pairs = [f"{role}={column.strip()}" for role, column in zip(COLUMNS, columns, strict=True)
             if column.strip()]  # fmt: skip
    options = {"patient": patient, "table": table, "labels": labels, "columns": ",".join(pairs)}
    settings: dict[str, Any] = {f"data.{key}": text.strip() for key, text in options.items()}
    settings |= {"data.name": "folder", "data.root": Path(root.strip())}
    spec = RunSpec.of(**{path: value for path, value in settings.items() if value != ""})
    return registered.register(workspace, name.strip(), spec.data)


def listing(workspace: Workspace) -> Markup:
    """The registered names as HTML, each with a button that removes it."""
    rows = [_row(named) for named in registered.names(workspace)]
    return render_macro("pages/data/register.html.j2", "listing", rows=rows)


def field_error(error: CoreError) -> Markup:
    """An error in the form as HTML; the page shows it under the field that caused it."""
    field = (error.field or "named.name").replace("data.", "named.").replace(".", "-")
    return error_message(error, "named-path" if field == "named-columns" else field)


def _row(named: RegisteredDataset) -> tuple[str, str, list[str]]:
    description = named.as_json()
    options = [f"{key} {value}" for key, value in description.items()
               if key not in ("name", "data", "root")]  # fmt: skip
    return named.name, named.data.name, [str(description.get("root", "")), *options]


def _text(key: str, label: str, example: str, scale: int = 1) -> gr.Textbox:
    return gr.Textbox(
        label=label, placeholder=example, elem_id=f"named-{key}", min_width=150, scale=scale
    )
