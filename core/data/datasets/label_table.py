"""A user's table of labels: CSV with any common separator, columns recognised by name."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.data.datasets.folder_description import Description
from core.data.problems import raise_or_collect
from core.errors import DataError

NAMES = {
    "path": ("path", "file", "filename", "file name", "filepath", "image", "image path",
             "image index", "image id", "dicom path", "id"),
    "patient": ("patient", "patient id", "patientid", "subject", "subject id"),
    "split": ("split", "set", "subset", "partition"),
    "sex": ("sex", "gender", "patient sex", "patient gender"),
    "age": ("age", "patient age"),
    "view": ("view", "view position", "viewposition", "projection", "ap/pa"),
    "label": ("label", "labels", "class", "finding labels", "diagnosis", "target name"),
}  # fmt: skip
"""Names of columns that are recognised, in lower case with ``_`` and ``-`` as spaces."""

POSITIVE = frozenset({"1", "1.0", "yes", "y", "true", "t", "positive", "pos", "present"})
NEGATIVE = frozenset({"0", "0.0", "no", "n", "false", "f", "negative", "neg", "absent"})
UNKNOWN = frozenset(
    {"", "-1", "-1.0", "nan", "na", "n/a", "none", "null", "u", "uncertain", "unknown", "?"}
)
"""Words for a label that is not known. An empty cell is unknown, not negative."""

MOSTLY = 0.9
"""A column is a finding if this share of its cells are labels; its other cells are errors."""


def read_label_table(path: Path, about: Description, normal: Collection[str]) -> pd.DataFrame:
    """Read a table of labels.

    Args:
        path: A CSV or TSV file; separated by commas, semicolons, tabs or bars, with or without a
            byte order mark.
        about: Names of columns and findings, as far as they are given.
        normal: Words for "no finding" in a column of classes, if ``about`` has none.

    Returns:
        Rows indexed by image, with the columns ``patient split sex age view`` and one per finding.

    Raises:
        DataError: A column is missing, a label is not recognised, or there are no findings.
    """
    read = _cells(path)
    roles = {role: _column(path, read, role, about) for role in NAMES}
    index = pd.Index(read[roles["path"]].str.strip(), name="id") if roles["path"] else None
    if index is None or (index == "").any():
        raise DataError(
            f"{path} has no column of paths" + ("." if index is None else " without empty cells."),
            "Name the column “path”, or give its name in dataset.json: "
            '{"columns": {"path": "…"}}. Columns of the file: ' + ", ".join(read.columns) + ".",
            field="data.root",
        )
    table = pd.DataFrame(index=index)
    for role in ("patient", "split"):
        table[role] = _texts(read, roles[role])
    table["sex"] = [_sex(word) for word in _texts(read, roles["sex"])]
    years = pd.Series(_texts(read, roles["age"])).str.extract(r"^0*(\d+(?:\.\d+)?)\s*[Yy]?$")[0]
    table["age"] = pd.to_numeric(years, errors="coerce").to_numpy(float)
    table["view"] = [_view(word) for word in _texts(read, roles["view"])]
    used = {column for column in roles.values() if column is not None}
    findings = _findings(path, read, used, about)
    if not findings and roles["label"]:
        words = {word.lower() for word in about.normal} or set(normal)
        findings = _classes(read[roles["label"]], about, words)
    if not findings:
        raise DataError(
            f"{path} has no column of findings: none contains labels such as 0 and 1.",
            "Add one column per finding, or a column “label” with the name of the finding. Columns "
            f"of the file: {', '.join(read.columns)}.",
            field="data.labels" if about.findings else "data.root",
        )  # fmt: skip
    for name, values in findings.items():
        table[name] = values
    return table


def _cells(path: Path) -> pd.DataFrame:
    """Read all cells as text."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}).", "Check that you may read it."
        ) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    head = text[:20_000].splitlines()[:1]
    separator = max(",;\t|", key=head[0].count) if head else ","
    try:
        read = pd.read_csv(
            io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, index_col=False,
            quoting=csv.QUOTE_MINIMAL,
        )  # fmt: skip
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(
            f"{path} is not a table ({error}).",
            "Save it as CSV with the column names in the first line.",
            field="data.root",
        ) from error
    if read.empty:
        raise DataError(f"{path} has no rows.", "Add one row per image.", field="data.root")
    read.columns = [str(column).strip() for column in read.columns]
    return read.fillna("")


def _column(path: Path, read: pd.DataFrame, role: str, about: Description) -> str | None:
    given = about.columns.get(role)
    if given is not None:
        if given not in read.columns:
            raise DataError(
                f"{path} has no column “{given}”.",
                f"Columns of the file: {', '.join(read.columns)}.",
                field="data.columns",
            )
        return given
    columns = {_plain(column): column for column in read.columns}
    return next((columns[name] for name in NAMES[role] if name in columns), None)


def _findings(
    path: Path, read: pd.DataFrame, used: set[str], about: Description
) -> dict[str, NDArray[np.float64]]:
    """Return labels by finding: of the given columns, or of all that mostly contain labels."""
    findings = {}
    missing = [column for column in about.findings if column not in read.columns]
    if missing and len(missing) < len(about.findings):
        raise DataError(
            f"{path} has no column {', '.join(missing)}.",
            f"Columns of the file: {', '.join(read.columns)}.",
            field="data.labels",
        )
    for column in about.findings or read.columns:
        if column in used or column not in read.columns:
            continue
        words = read[column].str.strip().str.lower()
        yes, no = words.isin(POSITIVE), words.isin(NEGATIVE)
        invalid = ~(yes | no | words.isin(UNKNOWN))
        if column not in about.findings and (invalid.mean() > 1 - MOSTLY or not (yes | no).any()):
            continue
        if invalid.any():
            rows = np.flatnonzero(invalid)
            raise_or_collect(
                "unknown labels",
                [f"line {row + 2}" for row in rows],
                DataError(
                    f"{path}: {len(rows):,} cells of the column “{column}” are not labels (line "
                    f"{rows[0] + 2}: “{read[column].iloc[rows[0]]}”).",
                    "Use 1, 0 or an empty cell, or remove the column from the findings.",
                    field="data.root",
                ),
            )
        values = np.where(yes, 1.0, np.where(no, 0.0, np.nan))
        findings[about.findings.get(column, column)] = values
    return findings


def _classes(
    cells: pd.Series, about: Description, normal: Collection[str]
) -> dict[str, NDArray[np.float64]]:
    """Return labels by finding, from cells that contain the names of findings."""
    classes = [
        [word.strip() for word in str(cell).replace(";", "|").split("|") if word.strip()]
        for cell in cells
    ]
    names = {word for words in classes for word in words if _plain(word) not in normal}
    return {
        about.findings.get(name, name): np.array([float(name in words) for words in classes])
        for name in list(about.findings) or sorted(names)
        if name in names
    }


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ")


def _texts(read: pd.DataFrame, column: str | None) -> list[str]:
    if column is None:
        return [""] * len(read)
    return [str(cell).strip() for cell in read[column]]


def _sex(word: str) -> str:
    return {"m": "M", "male": "M", "f": "F", "female": "F"}.get(word.lower(), "")


def _view(word: str) -> str:
    views = {"pa": "PA", "ap": "AP", "lateral": "LATERAL", "ll": "LATERAL", "l": "LATERAL"}
    return views.get(word.lower(), "")
