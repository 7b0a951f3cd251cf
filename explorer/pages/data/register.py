"""The Data page's dialogue that gives a folder of the user's own a name."""

from __future__ import annotations

import itertools
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from core.config.run import RunSpec
from core.data.datasets import registered
from core.data.datasets.registered import RegisteredDataset
from core.errors import ConfigurationError, CoreError
from core.workspace import Workspace
from explorer.components.live_region import live
from explorer.templates import error_message

COLUMNS = ("path", "patient", "split")
"""Columns that the dialogue asks for by what they hold; dataset.json may name others."""


QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_serial = itertools.count(1)


def dialogue(workspace: Workspace, wanted: gr.State, style: str) -> None:
    """Lay out the dialogue.

    Args:
        workspace: Where names are kept.
        wanted: Set to ``{"name": …}`` when a name was registered, to ``{"name": None}`` when one
            was forgotten.
        style: Style sheet of the page.
    """
    with gr.Accordion(
        "Register a folder of your own by name", open=False, elem_classes="cxr-group",
        elem_id="data-register",
    ):  # fmt: skip
        with gr.Row():
            name = _text("name", "Name", "ward-3")
            root = _text("root", "Folder, on the machine that trains", "/data/ward", scale=3)
            patient = _text("patient", "Patient in a picture's path", r"(person\d+)")
        with gr.Row():
            table = _text("table", "Table (CSV)", "the only one")
            columns = [_text(one, f"Column: {one}", "by its name") for one in COLUMNS]
            labels = _text("labels", "Findings", "all, or Edema, Fx=Fracture", scale=2)
        said = live(elem_id="named-said", css_template=style)
        with gr.Row():
            button = gr.Button(
                "Register", size="sm", elem_id="named-register", scale=0, min_width=140
            )
        listed = live(listing(workspace), elem_id="named-list", css_template=style)

    def add(*typed: str) -> list[Any]:
        try:
            found = register(workspace, *typed)
        except CoreError as error:
            return [fault(error), gr.skip(), gr.skip()]
        gr.Info(f"{found.name} stands for {found.data.root}.", title="Registered", duration=4)
        return ["", listing(workspace), {"name": found.name, "serial": next(_serial)}]

    def drop(event: gr.EventData) -> list[Any]:
        asked = event._data
        try:
            registered.forget(workspace, str(asked.get("name")))
        except CoreError as error:
            return [fault(error), listing(workspace), gr.skip()]
        return ["", listing(workspace), {"name": None, "serial": next(_serial)}]

    typed = [name, root, patient, table, labels, *columns]
    button.click(add, typed, [said, listed, wanted], **QUIET)
    name.submit(add, typed, [said, listed, wanted], **QUIET)
    listed.click(drop, None, [said, listed, wanted], **QUIET)


def _text(key: str, label: str, example: str, scale: int = 1) -> gr.Textbox:
    return gr.Textbox(
        label=label, placeholder=example, elem_id=f"named-{key}", min_width=150, scale=scale
    )


def register(
    workspace: Workspace,
    name: str,
    root: str,
    patient: str,
    table: str,
    labels: str,
    *columns: str,
) -> RegisteredDataset:
    """Give a folder a name.

    Args:
        workspace: Where the name is kept.
        name: The name.
        root: The folder.
        patient: Regular expression that finds the patient in a picture's path; or empty.
        table: Name of the CSV file; or empty.
        labels: Columns or class folders that are findings; or empty.
        *columns: Names of the columns in ``COLUMNS``; each may be empty.

    Raises:
        CoreError: The name cannot be used, or the folder cannot be opened so.
    """
    if not root.strip():
        raise ConfigurationError(
            "No folder is named.", "Type the folder that holds the pictures.", field="data.root"
        )
    pairs = [f"{role}={column.strip()}" for role, column in zip(COLUMNS, columns, strict=True)
             if column.strip()]  # fmt: skip
    said = {"patient": patient, "table": table, "labels": labels, "columns": ",".join(pairs)}
    chosen: dict[str, Any] = {f"data.{key}": one.strip() for key, one in said.items()}
    asked = {"data.name": "folder", "data.root": Path(root.strip()), **chosen}
    spec = RunSpec.of(**{path: value for path, value in asked.items() if value != ""})
    return registered.register(workspace, name.strip(), spec.data)


def listing(workspace: Workspace) -> str:
    """HTML of the names there are, each with a button that forgets it."""
    found = registered.names(workspace)
    if not found:
        return '<p class="cxr-muted cxr-small">No name is registered yet.</p>'
    rows = "".join(_row(one) for one in found)
    return (
        '<div class="cxr-scroll"><table class="cxr-table" aria-label="Registered names"><thead><tr>'
        "<th>Name</th><th>Data set</th><th>Folder and options</th><th></th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def fault(error: CoreError) -> str:
    """HTML of what is wrong with the dialogue, beside the field at fault."""
    field = (error.field or "named.name").replace("data.", "named.").replace(".", "-")
    if field == "named-columns":
        field = "named-path"
    return f'<div data-beside="{escape(field)}">{error_message(error)}</div>'


def _row(one: RegisteredDataset) -> str:
    about = one.as_json()
    options = [f"{key} {value}" for key, value in about.items()
               if key not in ("name", "data", "root")]  # fmt: skip
    where = " · ".join([str(about.get("root", "")), *options])
    name = escape(one.name, quote=True)
    return (
        f'<tr data-key="{name}"><td><b>{name}</b></td><td>{escape(one.data.name)}</td>'
        f'<td class="cxr-path">{escape(where)}</td><td><button type="button" class="cxr-button" '
        f'data-act="forget" data-name="{name}" data-confirm="Forget the name {name}? The folder '
        f'and the runs on it stay.">Forget</button></td></tr>'
    )
