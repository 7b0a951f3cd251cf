"""All settings of a run as a flat list, for the launch form and the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from core.config.run import RunSpec


@dataclass(frozen=True)
class Field:
    """A setting of ``RunSpec``, as the launch form and the command line offer it.

    Attributes:
        path: Dotted name, ``section.field``.
        option: Name on the command line, without the leading dashes.
        annotation: Its type.
        default: Its default value.
        description: Help text, one sentence.
    """

    path: str
    option: str
    annotation: Any
    default: Any
    description: str


NAMED = {"data.name": "data", "train.validation": "validate", "train.augmented_copies": "copies"}
"""Settings whose command-line option has another name than the field."""


def fields() -> list[Field]:
    """All settings of ``RunSpec``, in order; option names are unique across the sections."""
    settings = []
    for section, outer in RunSpec.model_fields.items():
        assert isinstance(outer.default, BaseModel)
        for name, field in type(outer.default).model_fields.items():
            if isinstance(field.json_schema_extra, dict):
                continue  # set by the program, not by the user
            path = f"{section}.{name}"
            option = NAMED.get(path, name.replace("_", "-"))
            settings.append(
                Field(path, option, field.annotation, field.default, field.description or "")
            )
    return settings
