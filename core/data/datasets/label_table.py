"""A user's table of labels: CSV with any common separator, columns recognised by their names."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.data.datasets.folder_description import Description
from core.data.problems import refuse
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
"""Names by which columns are recognised, in lower case with ``_`` and ``-`` as spaces."""

POSITIVE = frozenset({"1", "1.0", "yes", "y", "true", "t", "positive", "pos", "present"})
NEGATIVE = frozenset({"0", "0.0", "no", "n", "false", "f", "negative", "neg", "absent"})
UNKNOWN = frozenset(
    {"", "-1", "-1.0", "nan", "na", "n/a", "none", "null", "u", "uncertain", "unknown", "?"}
)
"""Words for a label that is not known; an empty cell is one of them, not a no."""

MOSTLY = 0.9
"""A column is a finding if this share of its cells are labels; the others are then faults."""


def read_spreadsheet(path: Path, about: Description, normal: Collection[str]) -> pd.DataFrame:
    """Read a table of labels.

    Args:
        path: A CSV or TSV file; separated by commas, semicolons, tabs or bars, with or without a
            byte order mark.
        about: Names of columns and findings where they were given.
        normal: Words in a column of classes that stand for "no finding", if ``about`` has none.

    Returns:
        Rows indexed by picture, with the columns ``patient split sex age view`` and one a finding.

    Raises:
        DataError: A column is missing, a label is not understood, or there are no findings.
    """
    read = _cells(path)
    roles = {role: _column(path, read, role, about) for role in NAMES}
    index = pd.Index(read[roles["path"]].str.strip(), name="id") if roles["path"] else None
    if index is None or (index == "").any():
        raise DataError(
            f"{path} has no column of paths" + ("." if index is None else " without gaps."),
            "Name it “path”, or say in dataset.json which one it is: "
            '{"columns": {"path": "…"}}. Columns there: ' + ", ".join(read.columns) + ".",
            field="data.root",
        )
    table = pd.DataFrame(index=index)
    for role in ("patient", "split"):
        table[role] = _texts(read, roles[role])
    table["sex"] = [_sex(one) for one in _texts(read, roles["sex"])]
    years = pd.Series(_texts(read, roles["age"])).str.extract(r"^0*(\d+(?:\.\d+)?)\s*[Yy]?$")[0]
    table["age"] = pd.to_numeric(years, errors="coerce").to_numpy(float)
    table["view"] = [_view(one) for one in _texts(read, roles["view"])]
    used = {one for one in roles.values() if one is not None}
    findings = _findings(path, read, used, about)
    if not findings and roles["label"]:
        words = {one.lower() for one in about.normal} or set(normal)
        findings = _classes(read[roles["label"]], about, words)
    if not findings:
        raise DataError(
            f"{path} has no column of findings: none holds labels such as 0 and 1.",
            "Add one column a finding, or a column “label” with the finding's name. Columns there: "
            + ", ".join(read.columns) + ".",
            field="data.labels" if about.findings else "data.root",
        )  # fmt: skip
    for name, values in findings.items():
        table[name] = values
    return table


def _cells(path: Path) -> pd.DataFrame:
    """All cells as texts."""
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
            "Save it as CSV, with a first line of column names.",
            field="data.root",
        ) from error
    if read.empty:
        raise DataError(f"{path} has no rows.", "Add one row a picture.", field="data.root")
    read.columns = [str(one).strip() for one in read.columns]
    return read.fillna("")


def _column(path: Path, read: pd.DataFrame, role: str, about: Description) -> str | None:
    named = about.columns.get(role)
    if named is not None:
        if named not in read.columns:
            raise DataError(
                f"{path} has no column “{named}”.",
                f"Columns there: {', '.join(read.columns)}.",
                field="data.columns",
            )
        return named
    plain = {one.lower().replace("_", " ").replace("-", " "): one for one in read.columns}
    return next((plain[one] for one in NAMES[role] if one in plain), None)


def _findings(
    path: Path, read: pd.DataFrame, used: set[str], about: Description
) -> dict[str, NDArray[np.float64]]:
    """Labels by finding: the named columns, or all that mostly hold labels."""
    found = {}
    lacking = [one for one in about.findings if one not in read.columns]
    if about.findings and len(lacking) < len(about.findings) and lacking:
        raise DataError(
            f"{path} has no column {', '.join(lacking)}.",
            f"Columns there: {', '.join(read.columns)}.",
            field="data.labels",
        )
    for column in about.findings or read.columns:
        if column in used or column not in read.columns:
            continue
        words = read[column].str.strip().str.lower()
        yes, no = words.isin(POSITIVE), words.isin(NEGATIVE)
        odd = ~(yes | no | words.isin(UNKNOWN))
        if column not in about.findings and (odd.mean() > 1 - MOSTLY or not (yes | no).any()):
            continue
        if odd.any():
            row = int(np.flatnonzero(odd)[0])
            refuse(
                "unknown labels",
                [f"line {at + 2}" for at in np.flatnonzero(odd)],
                DataError(
                    f"{path}: {odd.sum():,} cells of the column “{column}” are no labels (line "
                    f"{row + 2}: “{read[column].iloc[row]}”).",
                    "Write 1, 0 or nothing; or leave the column out of the findings.",
                    field="data.root",
                ),
            )
        values = np.where(yes, 1.0, np.where(no, 0.0, np.nan))
        found[about.findings.get(column, column)] = values
    return found


def _classes(
    cells: pd.Series, about: Description, normal: Collection[str]
) -> dict[str, NDArray[np.float64]]:
    """Labels by finding, of cells that name one or several findings."""
    plain = [
        [word.strip() for word in str(one).replace(";", "|").split("|") if word.strip()]
        for one in cells
    ]
    names = dict.fromkeys(
        word
        for words in plain
        for word in words
        if word.lower().replace("_", " ").replace("-", " ") not in normal
    )
    wanted = list(about.findings) or sorted(names)
    return {
        about.findings.get(name, name): np.array([float(name in words) for words in plain])
        for name in wanted
        if name in names
    }


def _texts(read: pd.DataFrame, column: str | None) -> list[str]:
    if column is None:
        return [""] * len(read)
    return [str(one).strip() for one in read[column]]


def _sex(word: str) -> str:
    return {"m": "M", "male": "M", "f": "F", "female": "F"}.get(word.lower(), "")


def _view(word: str) -> str:
    views = {"pa": "PA", "ap": "AP", "lateral": "LATERAL", "ll": "LATERAL", "l": "LATERAL"}
    return views.get(word.lower(), "")
