"""The data group of the launch form: data set, folder, split, options and label fraction."""

from __future__ import annotations

from typing import Any

import gradio as gr
from markupsafe import Markup

from core.config.run import LABEL_FRACTIONS
from core.data.datasets.registry import DATASETS, DatasetEntry
from core.workspace import Workspace
from explorer.components import dataset_choice
from explorer.pages.launch import form
from explorer.pages.launch.layout import titled_group
from explorer.templates import render_macro

FREE = frozenset({"data.patient", "data.table", "data.columns", "data.labels"})
"""Options that are free text for every data set that has them."""


def group(
    workspace: Workspace, fields: dict[str, Any], start: dict[str, Any]
) -> tuple[gr.HTML, gr.Textbox]:
    """Lay out the group.

    Args:
        workspace: Its registered names are offered as data sets.
        fields: The group's fields are added to it by the paths of their settings.
        start: First values by path.

    Returns:
        The note on the data set, and the field of the label fraction in percent.
    """
    entry = DATASETS[start["data.name"]]
    with titled_group("Data"):
        fields["data.name"] = gr.Dropdown(
            dataset_choice.choices(workspace),
            value=start["data.name"],
            label="Data set",
            elem_id=form.element_id("data.name"),
        )
        data_note = gr.HTML(note(entry), apply_default_css=False)
        fields["data.root"] = gr.Textbox(
            label="Folder of the data set, on the training machine",
            placeholder="/data/nih_chestxray14",
            visible=entry.needs_root,
            elem_id=form.element_id("data.root"),
        )
        fields["data.split"] = gr.Dropdown(
            split_choices(entry),
            value=start["data.split"],
            label="Split into training, validation and test",
            visible=len(entry.splits) > 1,
            allow_custom_value=True,
            elem_id=form.element_id("data.split"),
        )
        with gr.Row():
            for path in form.OPTION_PATHS:
                fields[path] = _option_field(path, start["data.name"])
        fractions = [(f"{100 * fraction:g}%", fraction) for fraction in LABEL_FRACTIONS]
        fields["data.label_fraction"] = gr.Radio(
            [*fractions, ("other", form.OTHER)],
            value=start["data.label_fraction"],
            label="Label fraction: share of the training patients whose labels are used",
            elem_id=form.element_id("data.label_fraction"),
            elem_classes="cxr-choices",
        )
        percent = gr.Textbox(label="Label fraction in percent", visible=False, elem_id="f-percent")
    return data_note, percent


def note(entry: DatasetEntry) -> Markup:
    """A data set's description and licence as HTML."""
    return render_macro("pages/launch/datasets.html.j2", "note", entry=entry)


def split_choices(entry: DatasetEntry) -> list[tuple[str, str]]:
    """The splits of a data set; the first is its default and has an empty value."""
    splits = entry.splits
    first = [(f"{splits[0]} (default)", "")] if splits else [("the only split", "")]
    return first + [(split, split) for split in splits[1:]]


def option_properties(path: str, data: str) -> dict[str, Any]:
    """Visibility, label and choices of an option's field for a data set."""
    option = dataset_choice.options(data).get(path)
    if option is None:
        return {"visible": False}
    if path in FREE:
        return {"visible": True, "label": option.label, "placeholder": option.example}
    choices = [(meaning, value) for value, meaning in option.choices.items()]
    choices[:1] = [(f"{meaning} (default)", "") for meaning, _ in choices[:1]]
    return {"visible": True, "label": option.label, "choices": choices}


def option_value(values: dict[str, Any], path: str) -> dict[str, str]:
    """The default for an option's field that holds a value of another data set."""
    option = dataset_choice.options(values["data.name"]).get(path)
    if option is None or path in FREE or values[path] in list(option.choices)[1:]:
        return {}
    return {"value": ""}


def _option_field(path: str, data: str) -> gr.Dropdown | gr.Textbox:
    properties = {"value": "", "elem_id": form.element_id(path), "min_width": 180}
    properties |= option_properties(path, data)
    if path in FREE:
        return gr.Textbox(**properties)
    return gr.Dropdown(**properties, allow_custom_value=True)
