"""The advanced group of the launch form: an empty field uses the value shown in grey."""

from __future__ import annotations

from typing import Any

import gradio as gr

from core.config.run import RunSpec
from core.models.backbones.registry import backbone_card
from core.training import trackers
from explorer.pages.launch import form

AUGMENTATIONS = [
    ("default", form.DEFAULTED),
    ("none", "none"),
    ("crop and flip", "crop-flip"),
    ("RandAugment and erasing", "randaugment"),
]
LOSSES = [
    ("binary cross-entropy", "bce"),
    ("focal (Lin 2017)", "focal"),
    ("asymmetric (Ridnik 2021)", "asymmetric"),
]
CLASS_WEIGHTS = [("none", "none"), ("balanced by finding", "balanced")]
VALIDATIONS = [("full, every epoch", "every-epoch"), ("limited share of time", "budget")]
PRECISIONS = ["auto", "fp32", "bf16", "fp16"]
EMPTY = {
    "data.subset_seed": "the seed",
    "train.augmented_copies": "new each epoch",
    "train.accumulation": "fewest that fit",
}
"""Meaning of empty fields that have no default number."""
RESOLVED = (
    "train.lr",
    "train.weight_decay",
    "train.layer_decay",
    "train.warmup_epochs",
    "adapter.dropout",
)
"""Settings whose default depends on other settings."""
CHECKBOXES = {
    "train.crop": "Random crops (off: the centre)",
    "train.flip": "Flips (off: no mirrored chest)",
    "train.erase": "Random erasing, with RandAugment",
    "train.activation_checkpointing": "Activation checkpointing: recompute activations in the "
    "backward pass; much less memory, about a third more computation",
    "train.compile": "Compile the model (torch.compile): takes up to a minute at the start, "
    "worthwhile for long runs",
    "model.pretrained": "Start from the pre-trained weights (off: random weights, as a control)",
    "data.skip_bad": "Skip missing or unreadable images and list them in the result (off: such an "
    "image fails the run)",
    "data.shuffle_labels": "Control: shuffle the training labels between the studies, so that "
    "nothing can be learned",
}


def group(fields: dict[str, Any], start: dict[str, Any]) -> gr.Textbox:
    """Lay out the group.

    Args:
        fields: The group's fields are added to it by the paths of their settings.
        start: First values by path.

    Returns:
        The number of folds, which is not a setting of a run.
    """
    with gr.Row():
        fields["train.optimizer"] = gr.Radio(
            [("AdamW", "adamw"), ("SGD", "sgd")],
            value=start["train.optimizer"],
            label="Optimizer",
            elem_id=form.element_id("train.optimizer"),
            elem_classes="cxr-choices",
        )
        fields["train.augmentation"] = _dropdown(
            "train.augmentation", "Augmentation", AUGMENTATIONS, form.DEFAULTED
        )
    with gr.Row():
        for path in ("train.crop", "train.flip", "train.erase"):
            fields[path] = _checkbox(path, start[path])
    with gr.Row():
        fields["train.loss"] = _dropdown("train.loss", "Loss", LOSSES, start["train.loss"])
        fields["train.class_weight"] = _dropdown(
            "train.class_weight", "Class weight", CLASS_WEIGHTS, start["train.class_weight"]
        )
    with gr.Row():
        for path, label in form.NUMBERS.items():
            fields[path] = _number(path, label, start[path])
    with gr.Row():
        fields["train.precision"] = _dropdown(
            "train.precision", "Precision", PRECISIONS, start["train.precision"]
        )
        fields["train.device"] = gr.Textbox(
            value=start["train.device"],
            label="Device: auto, cpu, cuda, cuda:N",
            elem_id=form.element_id("train.device"),
        )
        fields["train.validation"] = _dropdown(
            "train.validation", "Validation", VALIDATIONS, start["train.validation"]
        )
    for path in ("train.activation_checkpointing", "train.compile"):
        fields[path] = _checkbox(path, start[path])
    fields["data.split_file"] = gr.Textbox(
        label="File that lists the labelled training studies, instead of a label fraction",
        placeholder="/lists/NIH_ChestX-ray/train_1.txt",
        elem_id=form.element_id("data.split_file"),
    )
    with gr.Row():
        folds = gr.Textbox(
            label="Cross-validation: number of folds",
            info="One run per fold of patients; scores join all.",
            placeholder="5",
            elem_id="f-folds",
        )
        fields["data.fold"] = gr.Textbox(
            label="Or a single fold",
            info="It is scored; the next one selects the epoch.",
            placeholder="1/5",
            elem_id=form.element_id("data.fold"),
        )
    fields["model.pretrained"] = _checkbox("model.pretrained", start["model.pretrained"])
    fields["train.track"] = gr.CheckboxGroup(
        tracker_choices(),
        value=start["train.track"],
        label="Also log the curves to",
        elem_id=form.element_id("train.track"),
        elem_classes="cxr-choices",
    )
    for path in ("data.skip_bad", "data.shuffle_labels"):
        fields[path] = _checkbox(path, start[path])
    return folds


def resolved(spec: RunSpec, path: str) -> str:
    """The value of an empty field for a resolved specification, as the field shows it in grey."""
    section, name = path.split(".")
    value = getattr(getattr(spec, section), name)
    return "" if value is None else f"{value:g}"


def tracker_choices() -> list[tuple[str, str]]:
    """The programs that can log a run's curves as (text, name) pairs."""
    return [
        (tracker.title if trackers.installed(name) else f"{tracker.title} (not installed)", name)
        for name, tracker in trackers.TRACKERS.items()
    ]


def _dropdown(path: str, label: str, choices: Any, value: str) -> gr.Dropdown:
    return gr.Dropdown(choices, value=value, label=label, elem_id=form.element_id(path))


def _checkbox(path: str, value: bool) -> gr.Checkbox:
    return gr.Checkbox(value, label=CHECKBOXES[path], elem_id=form.element_id(path))


def _number(path: str, label: str, value: str) -> gr.Textbox:
    if path == "model.input_size":
        default = f"{backbone_card(RunSpec().model.backbone).input_size:g}"
    elif path in RESOLVED:
        default = resolved(RunSpec().resolved(), path)
    else:
        default = EMPTY.get(path, "")
    return gr.Textbox(
        value,
        label=label,
        placeholder=None if value else default,
        elem_id=form.element_id(path),
        min_width=120,
    )
