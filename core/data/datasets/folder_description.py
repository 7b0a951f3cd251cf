"""What a user says about a folder of their own: a JSON file, or keywords."""

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
        folder: Where the pictures are; in the JSON file relative to that file, by default its own.
        title: The data set's name for people.
        licence: Under which terms the pictures may be used.
        patient: Regular expression that finds the patient in a picture's path below the folder.
        findings: Names for people, by class folder or column; empty if all are findings.
        normal: Class folders or words that stand for "no finding".
        table: Name of the CSV file with the labels.
        columns: Names of the columns in ``COLUMNS`` where they are not understood by themselves.
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
    """Put together what is said in a file and by keywords; the latter win.

    Args:
        root: The folder, perhaps with a ``dataset.json``; or a JSON file that names the folder.
        given: Fields of ``Description``.

    Raises:
        DataError: The file is no JSON, or a field is unknown or of the wrong kind.
    """
    file = root if root.is_file() else root / FILE
    said: dict[str, Any] = _read(file) if file.is_file() else {}
    merged = {**said, **given}
    folder = merged.pop("folder", None)
    base = file.parent
    values: dict[str, Any] = {"folder": base if folder is None else base / str(folder)}
    for name, value in merged.items():
        values[name] = _checked(name, value, file)
    if not values["folder"].is_dir():
        raise DataError(
            f"{file} names the folder {values['folder']}, which does not exist.",
            "Correct “folder”; it is relative to the file.",
            field="data.root",
        )
    return Description(**values)


def pairs(text: str, option: str) -> dict[str, str]:
    """Read ``a=b, c=d``; a word without ``=`` stands for itself, where that has a meaning.

    Args:
        text: What was typed.
        option: ``columns`` or ``labels``, for messages.

    Raises:
        DataError: It is not of this form, or names an unknown kind of column.
    """
    found = {}
    for part in text.split(","):
        key, equals, value = (one.strip() for one in part.partition("="))
        if not equals and option == "labels":
            value = key
        if not key or not value:
            raise DataError(
                f"“{text}” does not read as a list of {option}.",
                "Write path=File,patient=PatID." if option == "columns" else
                "Write Edema,Fracture or Fx=Fracture, separated by commas.",
                field=f"data.{option}",
            )  # fmt: skip
        if option == "columns" and key not in COLUMNS:
            raise unknown_name("column", key, COLUMNS, error=DataError, field="data.columns")
        found[key] = value
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file} does not describe a data set: it is no JSON ({error}).",
            'Write for example {"patient": "(person\\\\d+)"}.',
            field="data.root",
        ) from error
    if not isinstance(said, dict):
        raise DataError(
            f"{file} does not describe a data set: it is no JSON object.",
            'Write for example {"patient": "(person\\\\d+)"}.',
            field="data.root",
        )
    return said


def _checked(name: str, value: Any, file: Path) -> Any:
    texts = ("title", "licence", "patient", "table")
    if name in texts and isinstance(value, str):
        return value
    if name == "normal" and _are_texts(value):
        return tuple(value)
    if name == "findings" and isinstance(value, Mapping) and _are_texts(list(value.values())):
        return dict(value)
    if name == "findings" and _are_texts(value):
        return {one: one for one in value}
    if name == "columns" and isinstance(value, Mapping) and _are_texts(list(value.values())):
        for one in value:
            if one not in COLUMNS:
                raise unknown_name("column", str(one), COLUMNS, error=DataError, field="data.root")
        return dict(value)
    known = (*texts, "normal", "findings", "columns", "folder")
    if name not in known:
        raise unknown_name(
            f"setting in {file.name}", name, known, error=DataError, field="data.root"
        )
    raise DataError(
        f"“{name}” of {file.name} is not understood: {value!r}.",
        "Texts for title, licence, patient and table; a list of texts for normal; a list or an "
        "object of texts for findings; an object of texts for columns.",
        field="data.root",
    )


def _are_texts(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(one, str) for one in value)
    )
