"""Fields of the launch form that depend on other fields: which are shown, with which defaults."""

from __future__ import annotations

from typing import Any

import gradio as gr

from core.config.run import EFFECTIVE, RunSpec
from core.errors import CoreError
from core.models.backbones.registry import backbone_card
from core.workspace import Workspace
from explorer.components import dataset_choice
from explorer.pages.launch import advanced, datasets, form, preview, tuning

OF_TRAINING = tuple(
    path
    for path in form.PATHS
    if path.startswith("train.")
    and path.partition(".")[2] not in EFFECTIVE
    and path not in (*advanced.RESOLVED, "train.momentum")
)
"""Settings that are hidden for methods in closed form alone."""
PATHS = (
    "data.root",
    "data.split",
    *form.OPTION_PATHS,
    "model.weights",
    "model.input_size",
    "adapter.rank",
    "adapter.alpha",
    *tuning.PATHS,
    "train.momentum",
    *OF_TRAINING,
    *advanced.RESOLVED,
)


def updates(workspace: Workspace, values: dict[str, Any]) -> list[Any]:
    """Updates of the fields in ``PATHS``.

    Args:
        workspace: Place of the registered names.
        values: Values of the form's fields by path.
    """
    hidden = preview.unused(values)
    fields = _of_data(workspace, values) | _of_backbone(values)
    for path in ("train.momentum", "adapter.rank", "adapter.alpha", *OF_TRAINING):
        fields[path] = gr.update(visible=path not in hidden)
    for path, properties in tuning.option_properties(values["adapter.method"]).items():
        fields[path] = gr.update(**properties)
    spec = _valid_spec(values).resolved()
    for path in advanced.RESOLVED:
        fields[path] = gr.update(
            placeholder=advanced.resolved(spec, path), visible=path not in hidden
        )
    return [fields[path] for path in PATHS]


def _of_data(workspace: Workspace, values: dict[str, Any]) -> dict[str, Any]:
    name = values["data.name"]
    entry = dataset_choice.dataset_entry(workspace, name)
    split = values["data.split"] if values["data.split"] in entry.splits else ""
    # An unchanged value is not written again: a recipe may be setting it at the same time.
    new = {} if split == (values["data.split"] or "") else {"value": split}
    updates = {
        "data.root": gr.update(visible=entry.needs_root),
        "data.split": gr.update(
            choices=datasets.split_choices(entry), visible=len(entry.splits) > 1, **new
        ),
    }
    for path in form.OPTION_PATHS:
        properties = datasets.option_properties(path, name) | datasets.option_value(values, path)
        updates[path] = gr.update(**properties)
    return updates


def _of_backbone(values: dict[str, Any]) -> dict[str, Any]:
    try:
        backbone = backbone_card(values["model.backbone"] or "")
        takes_file, size = backbone.source in ("file", "hub"), str(backbone.input_size)
    except CoreError:
        takes_file, size = False, ""
    return {
        "model.weights": gr.update(visible=takes_file or bool(values["model.weights"])),
        "model.input_size": gr.update(placeholder=size),
    }


def _valid_spec(values: dict[str, Any]) -> RunSpec:
    """The settings on which defaults depend, with a valid number where the form has none."""
    return RunSpec.of(
        **{
            "model.backbone": values["model.backbone"] or "",
            "adapter.method": values["adapter.method"],
            "train.optimizer": values["train.optimizer"],
            "train.batch_size": _valid_count(values["train.batch_size"], 16, 4096),
            "train.epochs": _valid_count(values["train.epochs"], 6, 10_000),
        }
    )


def _valid_count(value: Any, default: int, most: int) -> int:
    number = form.parse_number(value)
    return int(number) if isinstance(number, int | float) and 1 <= number <= most else default
