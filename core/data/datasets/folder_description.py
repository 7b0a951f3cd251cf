"""Settings of a user's own folder, from a JSON file or keywords."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import DataError, unknown_name

FILE = "dataset.json"
COLUMNS = ("path", "patient", "split", "sex", "age", "view", "label")


@dataclass(frozen=True)
class Description:
    """The settings of a folder.

    Attributes:
        folder: The folder of the images; in the JSON file relative to it, by default its own.
        title: The displayed name of the data set.
        licence: The terms of use of the images.
        patient: Regular expression for the patient in an image's path below the folder.
        findings: Displayed names, by class folder or column; empty if all are findings.
        normal: Class folders or words that mean "no finding".
        table: Name of the CSV file with the labels.
        columns: Names of the columns in ``COLUMNS`` that are not recognised by name.
    """

    folder: Path
    title: str = ""
    licence: str = ""
    patient: str | None = None
    findings: Mapping[str, str] = field(default_factory=dict)
    normal: tuple[str, ...] = ()
    table: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


def describe(root: Path, given: Mapping[str, Any]) -> Description:
    """Combine the settings of a file and of keywords, which take precedence.

    Args:
        root: The folder, which may contain a ``dataset.json``; or a JSON file with its path.
        given: Fields of ``Description``.

    Raises:
        DataError: The file is not JSON, or a field is unknown or has the wrong type.
    """
    file = root if root.is_file() else root / FILE
    merged: dict[str, Any] = {**(_read(file) if file.is_file() else {}), **given}
    folder = merged.pop("folder", None)
    base = file.parent
    values: dict[str, Any] = {"folder": base if folder is None else base / str(folder)}
    for name, value in merged.items():
        values[name] = _checked(name, value, file)
    if not values["folder"].is_dir():
        raise DataError(
            f"The folder {values['folder']} in {file} does not exist.",
            "Correct “folder”, which is relative to the file.",
            field="data.root",
        )
    return Description(**values)


def pairs(text: str, option: str) -> dict[str, str]:
    """Parse ``a=b, c=d``; for labels, ``a`` is short for ``a=a``.

    Args:
        text: The text.
        option: ``columns`` or ``labels``.

    Raises:
        DataError: The text has another form, or contains an unknown kind of column.
    """
    parsed = {}
    for part in text.split(","):
        key, equals, value = map(str.strip, part.partition("="))
        if not equals and option == "labels":
            value = key
        if not key or not value:
            raise DataError(
                f"“{text}” is not a list of {option}.",
                "Write path=File,patient=PatID." if option == "columns" else
                "Write Edema,Fracture or Fx=Fracture, separated by commas.",
                field=f"data.{option}",
            )  # fmt: skip
        if option == "columns" and key not in COLUMNS:
            raise unknown_name("column", key, COLUMNS, error=DataError, field="data.columns")
        parsed[key] = value
    return parsed


def _read(file: Path) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file} does not describe a data set: it is not JSON ({error}).",
            'Write for example {"patient": "(person\\\\d+)"}.',
            field="data.root",
        ) from error
    if not isinstance(settings, dict):
        raise DataError(
            f"{file} does not describe a data set: it is not a JSON object.",
            'Write for example {"patient": "(person\\\\d+)"}.',
            field="data.root",
        )
    return settings


def _checked(name: str, value: Any, file: Path) -> Any:
    texts = ("title", "licence", "patient", "table")
    if name in texts and isinstance(value, str):
        return value
    if name == "normal" and _are_texts(value):
        return tuple(value)
    if name == "findings" and isinstance(value, Mapping) and _are_texts(list(value.values())):
        return dict(value)
    if name == "findings" and _are_texts(value):
        return {name: name for name in value}
    if name == "columns" and isinstance(value, Mapping) and _are_texts(list(value.values())):
        for column in value:
            if column not in COLUMNS:
                raise unknown_name(
                    "column", str(column), COLUMNS, error=DataError, field="data.root"
                )
        return dict(value)
    known = (*texts, "normal", "findings", "columns", "folder")
    if name not in known:
        raise unknown_name(
            f"setting in {file.name}", name, known, error=DataError, field="data.root"
        )
    raise DataError(
        f"“{name}” in {file.name} has the wrong type: {value!r}.",
        "Give a text for title, licence, patient and table; a list of texts for normal; a list or "
        "an object of texts for findings; an object of texts for columns.",
        field="data.root",
    )


def _are_texts(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(text, str) for text in value)
    )
