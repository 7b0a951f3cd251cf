"""The launch form's values and the specification they stand for; knows no Gradio."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from core.config.fields import fields
from core.config.run import LABEL_FRACTIONS, OPTIONS, OWN, RunSpec
from core.errors import ConfigurationError

OTHER = "other"
"""The choice of label fraction that opens the free entry."""

PATHS = tuple(setting.path for setting in fields() if setting.path != "data.called")
"""Settings that the form has a field for. A registered name stands in that of the data set."""
TRACK = "train.track"
"""The setting whose field holds a list of names."""
OPTION_PATHS = tuple(f"data.{name}" for name in OPTIONS)
TEXTS = frozenset(
    {
        "data.root",
        "data.split",
        "data.split_file",
        "model.weights",
        *(f"adapter.{name}" for name in OWN),
        *OPTION_PATHS,
    }
)
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
TYPED = frozenset(
    {
        "train.batch_size",
        "train.accumulation",
        "train.augmented_copies",
        "train.lr",
        "train.min_lr",
        "train.weight_decay",
        "train.layer_decay",
        "train.warmup_epochs",
        "train.momentum",
        "train.drop_path",
        "adapter.dropout",
        "model.input_size",
        "data.subset_seed",
        "train.validation_share",
    }
)
"""Numbers whose fields hold text: Gradio's number field cannot be empty, it comes up as 0."""
DEFAULTED = "default"
"""The choice of a list that leaves a setting to its published value."""


def number(value: Any) -> Any:
    """What a field of text holds: a number, None if it is empty.

    What is neither stays text, so that the specification refuses it by the field's name.
    """
    if not isinstance(value, str):
        return value
    word = value.strip()
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word or None


def spec_of(values: Mapping[str, Any], percent: float | str | None) -> RunSpec:
    """Read the form.

    Args:
        values: What each field holds, by the path of its setting; paths left out keep their
            default. Empty fields are left to their default where a setting has none of its own.
        percent: The free entry of the label fraction, in percent, or a text that is no number.

    Raises:
        ConfigurationError: All faults at once; ``field`` names the first.
    """
    given: dict[str, Any] = {}
    percent = number(percent)
    for path, value in values.items():
        if path in TYPED:
            value = number(value)
        if path == "data.label_fraction" and value == OTHER:
            if percent is None:
                raise ConfigurationError(
                    "No label fraction is given.",
                    "Type a percentage above 0 and up to 100.",
                    field=path,
                )
            if isinstance(percent, str) or not 0 < percent <= 100:
                raise ConfigurationError(
                    f"{percent if isinstance(percent, str) else f'{percent:g}'}% is no label "
                    "fraction.",
                    "Type a percentage above 0 and up to 100.",
                    field=path,
                )
            # 33.3 / 100 is not 0.333, and equal runs must have equal fingerprints.
            value = round(percent / 100, 12)
        if isinstance(value, str):
            value = value.strip()
        if path == TRACK:
            value = ",".join(value or ())
        if value in ("", None, DEFAULTED):
            if _required(path):
                raise ConfigurationError(
                    f"{_label(path)} is empty.", f"The default is {_default(path)}.", field=path
                )
            continue
        if path in WHOLE and isinstance(value, float) and value.is_integer():
            value = int(value)
        given[path] = value
    return RunSpec.of(**given)


def values_of(spec: RunSpec) -> tuple[dict[str, Any], str]:
    """What the fields hold for a specification: the values by path, and the free percentage."""
    values: dict[str, Any] = {}
    percent = ""
    for path in PATHS:
        section, name = path.split(".")
        value = getattr(getattr(spec, section), name)
        if path == "data.label_fraction" and value not in LABEL_FRACTIONS:
            percent, value = text(round(100 * value, 6)), OTHER
        if path in TEXTS:
            value = "" if value is None else str(value)
        if path == TRACK:
            value = value.split(",") if value else []
        values[path] = text(value) if path in TYPED else value
    return values, percent


def text(value: float | None) -> str:
    """A number as a person types it; ``number`` reads the same back."""
    if value is None:
        return ""
    return str(int(value)) if float(value).is_integer() else str(value)


def compact(spec: RunSpec) -> str:
    """What differs from the defaults as JSON, for the page's address; empty if nothing does."""
    changed = {}
    for setting in fields():
        section, name = setting.path.split(".")
        value = json.loads(spec.model_dump_json())[section].get(name, setting.default)
        if value != setting.default:
            changed[setting.path] = value
    return json.dumps(changed, separators=(",", ":")) if changed else ""


def element(path: str) -> str:
    """The id of a setting's field on the page."""
    return "f-" + path.replace(".", "-").replace("_", "-")


def address(spec: RunSpec) -> str:
    """What the page's address says of a form, as JSON of keys and values."""
    return json.dumps({"spec": compact(spec) or None})


def from_compact(text: str) -> RunSpec:
    """Read what ``compact`` wrote.

    Raises:
        ConfigurationError: It is no JSON object of settings, or the settings are not valid.
    """
    try:
        changed = json.loads(text)
    except ValueError:
        changed = None
    if not isinstance(changed, dict):
        raise ConfigurationError(
            "The address holds settings that cannot be read.", "The form shows the defaults."
        )
    return RunSpec.of(**{str(path): value for path, value in changed.items()})


def _required(path: str) -> bool:
    return _default(path) is not None


def _default(path: str) -> Any:
    return next(setting.default for setting in fields() if setting.path == path)


def _label(path: str) -> str:
    return path.split(".")[1].replace("_", " ").capitalize()
