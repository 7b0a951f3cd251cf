"""The advanced part of the launch form: what is left open takes the value shown in grey."""

from __future__ import annotations

from typing import Any

import gradio as gr

from core.config.run import RunSpec
from core.models.backbones.registry import backbone_card
from explorer.pages.launch import form, preview

AUGMENTATIONS = [
    ("default", form.DEFAULTED),
    ("none", "none"),
    ("crop and flip", "crop-flip"),
    ("RandAugment and erasing", "randaugment"),
]
VALIDATIONS = [("all of it, every epoch", "every-epoch"), ("by budget", "budget")]
PRECISIONS = ["auto", "fp32", "bf16", "fp16"]
NUMBERS = [
    ("train.batch_size", "Batch size"),
    ("train.accumulation", "Parts of a batch"),
    ("train.augmented_copies", "Augmented copies"),
    ("train.lr", "Learning rate"),
    ("train.min_lr", "Final learning rate"),
    ("train.weight_decay", "Weight decay"),
    ("train.layer_decay", "Layer-wise decay"),
    ("train.warmup_epochs", "Warm-up epochs"),
    ("train.momentum", "Momentum (SGD)"),
    ("train.drop_path", "Drop path"),
    ("adapter.dropout", "Adapter dropout"),
    ("model.input_size", "Input size, px"),
    ("data.subset_seed", "Subset seed"),
    ("train.validation_share", "Validation's share"),
]
OPEN = {
    "data.subset_seed": "the seed",
    "train.augmented_copies": "new each time",
    "train.accumulation": "as few as fit",
}
"""What settings without a number stand for."""
RESOLVED = (
    "train.lr",
    "train.weight_decay",
    "train.layer_decay",
    "train.warmup_epochs",
    "adapter.dropout",
)
"""Settings that are resolved where they are left open."""


def group(fields: dict[str, Any], start: dict[str, Any]) -> None:
    """Lay out the group; its fields are added to ``fields`` by their settings' paths."""
    with gr.Row():
        fields["train.optimizer"] = gr.Radio(
            [("AdamW", "adamw"), ("SGD", "sgd")],
            value=start["train.optimizer"],
            label="Optimizer",
            elem_id=form.element("train.optimizer"),
            elem_classes="cxr-choices",
        )
        fields["train.augmentation"] = gr.Dropdown(
            AUGMENTATIONS,
            value=form.DEFAULTED,
            label="Augmentation",
            elem_id=form.element("train.augmentation"),
        )
    with gr.Row():
        for path, label in NUMBERS:
            fields[path] = _number(path, label, start)
    with gr.Row():
        fields["train.precision"] = gr.Dropdown(
            PRECISIONS,
            value=start["train.precision"],
            label="Precision",
            elem_id=form.element("train.precision"),
        )
        fields["train.device"] = gr.Textbox(
            value=start["train.device"],
            label="Device: auto, cpu, cuda, cuda:N",
            elem_id=form.element("train.device"),
        )
        fields["train.validation"] = gr.Dropdown(
            VALIDATIONS,
            value=start["train.validation"],
            label="Validation split",
            elem_id=form.element("train.validation"),
        )
    fields["train.activation_checkpointing"] = _checkbox(
        "train.activation_checkpointing",
        "Compute activations again on the way back: far less memory, a third more work",
        start,
    )
    fields["train.compile"] = _checkbox(
        "train.compile",
        "Compile the network (torch.compile): up to a minute at the start, pays in long runs",
        start,
    )
    fields["data.split_file"] = gr.Textbox(
        label="List of the labelled training studies (a file), in place of a label fraction",
        placeholder="/lists/NIH_ChestX-ray/train_1.txt",
        elem_id=form.element("data.split_file"),
    )
    fields["model.pretrained"] = _checkbox(
        "model.pretrained",
        "Start from the pre-trained weights (off: random weights, as a control)",
        start,
    )
    fields["train.track"] = gr.CheckboxGroup(
        preview.trackers(),
        value=start["train.track"],
        label="Mirror the curves, too, to",
        elem_id=form.element("train.track"),
        elem_classes="cxr-choices",
    )
    fields["data.skip_bad"] = _checkbox(
        "data.skip_bad",
        "Go on without pictures that are missing or cannot be read, and record which (off: "
        "they end the run)",
        start,
    )
    fields["data.shuffle_labels"] = _checkbox(
        "data.shuffle_labels",
        "Control: shuffle the training labels among the studies, so that nothing can be learnt",
        start,
    )


def resolved(spec: RunSpec, path: str) -> str:
    """What an open setting comes to, as its field shows it in grey."""
    section, name = path.split(".")
    return _published(getattr(getattr(spec.resolved(), section), name))


def _checkbox(path: str, label: str, start: dict[str, Any]) -> gr.Checkbox:
    return gr.Checkbox(start[path], label=label, elem_id=form.element(path))


def _number(path: str, label: str, start: dict[str, Any]) -> gr.Textbox:
    if path == "model.input_size":
        shown = _published(backbone_card(RunSpec().model.backbone).input_size)
    else:
        shown = resolved(RunSpec(), path) if path in RESOLVED else OPEN.get(path, "")
    return gr.Textbox(
        start[path],
        label=label,
        placeholder=None if start[path] else shown,
        elem_id=form.element(path),
        min_width=120,
    )


def _published(value: Any) -> str:
    return "" if value is None else f"{value:g}"
