"""Values of the launch form's fields and the specification that they describe; uses no Gradio."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from core.config.fields import fields
from core.config.run import LABEL_FRACTIONS, OPTIONS, OWN, RunSpec
from core.errors import ConfigurationError

OTHER = "other"
"""The choice of label fraction that opens the field for a percentage."""

PATHS = tuple(field.path for field in fields() if field.path != "data.called")
"""Settings with a field of their own. The field of the data set also holds registered names."""
TRACK = "train.track"
"""The setting whose field holds a list of names."""
OPTION_PATHS = tuple(f"data.{name}" for name in OPTIONS)
TEXTS = frozenset(
    {
        "data.root",
        "data.split",
        "data.split_file",
        "data.fold",
        "model.weights",
        *(f"adapter.{name}" for name in OWN),
        *OPTION_PATHS,
    }
)
"""Settings whose fields hold text."""
WHOLE = frozenset(
    {
        "data.subset_seed",
        "model.input_size",
        "adapter.rank",
        "train.epochs",
        "train.batch_size",
        "train.accumulation",
        "train.augmented_copies",
        "train.seed",
    }
)
"""Settings that are whole numbers."""
NUMBERS = {
    "train.batch_size": "Batch size",
    "train.accumulation": "Accumulation steps",
    "train.augmented_copies": "Augmented copies",
    "train.lr": "Learning rate",
    "train.min_lr": "Final learning rate",
    "train.weight_decay": "Weight decay",
    "train.layer_decay": "Layer-wise decay",
    "train.warmup_epochs": "Warm-up epochs",
    "train.momentum": "Momentum (SGD)",
    "train.drop_path": "Drop path",
    "adapter.dropout": "Adapter dropout",
    "model.input_size": "Input size, px",
    "data.subset_seed": "Subset seed",
    "train.validation_share": "Share of time for validation",
}
"""Numbers with text fields, and their labels. Gradio's number field shows 0 where it is empty."""
DEFAULTED = "default"
"""The choice of a list that leaves a setting at its published value."""


def parse_number(value: Any) -> Any:
    """The number in a text field, None if it is empty.

    Text that is not a number is returned as it is, so that the specification rejects it with the
    name of the field.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None


def number_text(value: float | None) -> str:
    """A number as a person types it; ``parse_number`` reads it back."""
    if value is None:
        return ""
    return str(int(value)) if float(value).is_integer() else str(value)


def spec_of(values: Mapping[str, Any], percent: float | str | None) -> RunSpec:
    """The specification that the form describes.

    Args:
        values: Values of the fields by the paths of their settings; paths left out keep their
            default, as do empty fields of settings whose default is None.
        percent: The label fraction typed in percent, or a text that is not a number.

    Raises:
        ConfigurationError: With all problems at once; ``field`` names the first.
    """
    given: dict[str, Any] = {}
    for path, value in values.items():
        if path in NUMBERS:
            value = parse_number(value)
        if path == "data.label_fraction" and value == OTHER:
            value = _fraction(parse_number(percent))
        if isinstance(value, str):
            value = value.strip()
        if path == TRACK:
            value = ",".join(value or ())
        if value in ("", None, DEFAULTED):
            if _default(path) is not None:
                raise ConfigurationError(
                    f"{_label(path)} is empty.", f"The default is {_default(path)}.", field=path
                )
            continue
        if path in WHOLE and isinstance(value, float) and value.is_integer():
            value = int(value)
        given[path] = value
    return RunSpec.of(**given)


def values_of(spec: RunSpec) -> tuple[dict[str, Any], str]:
    """Values of the fields for a specification: by path, and the label fraction in percent."""
    values: dict[str, Any] = {}
    percent = ""
    for path in PATHS:
        section, name = path.split(".")
        value = getattr(getattr(spec, section), name)
        if path == "data.label_fraction" and value not in LABEL_FRACTIONS:
            percent, value = number_text(round(100 * value, 6)), OTHER
        if path in TEXTS:
            value = "" if value is None else str(value)
        if path == TRACK:
            value = value.split(",") if value else []
        values[path] = number_text(value) if path in NUMBERS else value
    return values, percent


def element_id(path: str) -> str:
    """Id of a setting's field on the page."""
    return "f-" + path.replace(".", "-").replace("_", "-")


def encode(spec: RunSpec) -> str:
    """What differs from the defaults as JSON, for the page's address; empty if nothing does."""
    sections = json.loads(spec.model_dump_json())
    changed = {}
    for field in fields():
        section, name = field.path.split(".")
        value = sections[section].get(name, field.default)
        if value != field.default:
            changed[field.path] = value
    return json.dumps(changed, separators=(",", ":")) if changed else ""


def decode(text: str) -> RunSpec:
    """Read the text that ``encode`` wrote.

    Raises:
        ConfigurationError: It is not a JSON object of settings, or the settings are not valid.
    """
    try:
        changed = json.loads(text)
    except ValueError:
        changed = None
    if not isinstance(changed, dict):
        raise ConfigurationError(
            "The settings in the page's address cannot be read.", "The form shows the defaults."
        )
    return RunSpec.of(**{str(path): value for path, value in changed.items()})


def address(spec: RunSpec) -> str:
    """Keys and values for the page's address as JSON."""
    return json.dumps({"spec": encode(spec) or None})


def _fraction(percent: Any) -> float:
    problem = ""
    if percent is None:
        problem = "No label fraction is given."
    elif isinstance(percent, str):
        problem = f"{percent}% is not a label fraction."
    elif not 0 < percent <= 100:
        problem = f"{percent:g}% is not a label fraction."
    if problem:
        raise ConfigurationError(
            problem, "Type a percentage above 0 and up to 100.", field="data.label_fraction"
        )
    # 33.3 / 100 is not 0.333, and equal runs must have equal fingerprints.
    return float(round(percent / 100, 12))


def _default(path: str) -> Any:
    return next(field.default for field in fields() if field.path == path)


def _label(path: str) -> str:
    return path.split(".")[1].replace("_", " ").capitalize()
