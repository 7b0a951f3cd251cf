"""Every setting of a run, one by one, as a form or a command line offers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from core.config.run import RunSpec


@dataclass(frozen=True)
class Field:
    """One field of ``RunSpec`` as a form or a command line offers it.

    Attributes:
        path: Dotted name, ``section.field``.
        option: Name on the command line, without dashes.
        annotation: Its type.
        default: Its default value.
        description: One sentence.
    """

    path: str
    option: str
    annotation: Any
    default: Any
    description: str


NAMED = {"data.name": "data", "train.validation": "validate", "train.augmented_copies": "copies"}
"""Settings whose option is not called like the field."""


def fields() -> list[Field]:
    """Every field of ``RunSpec``, in order; option names are unique across the sections."""
    found = []
    for section, outer in RunSpec.model_fields.items():
        assert isinstance(outer.default, BaseModel)
        for name, field in type(outer.default).model_fields.items():
            if isinstance(field.json_schema_extra, dict):
                continue  # nobody chooses it
            path = f"{section}.{name}"
            option = NAMED.get(path, name.replace("_", "-"))
            found.append(
                Field(path, option, field.annotation, field.default, field.description or "")
            )
    return found
