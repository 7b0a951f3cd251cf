"""Tables of published data sets: CSV files, plain or gzipped, with known columns."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from core.data.problems import examples, raise_or_collect, warn
from core.errors import DataError

LONGEST_HEADER = 100_000
"""Characters of the first line that are read, since a file that is no table may have one line."""


def find_table(folders: Sequence[Path], names: Sequence[str]) -> Path | None:
    """Return the first table, plain or with ``.gz``, in the first folder that has one; or None."""
    paths = (folder / f"{name}{suffix}" for folder in folders for name in names
             for suffix in ("", ".gz"))  # fmt: skip
    return next((path for path in paths if path.is_file()), None)


def require_table(folder: Path, names: Sequence[str], title: str, remedy: str) -> Path:
    """Return the first table, plain or with ``.gz``, in a folder.

    Args:
        folder: The folder of the data set.
        names: Possible file names, the usual one first.
        title: The displayed name of the data set.
        remedy: What to do if there is none.

    Raises:
        DataError: There is none.
    """
    path = find_table([folder], names)
    if path is None:
        raise DataError(f"{title}: {names[0]} is not in {folder}.", remedy, field="data.root")
    return path


def read_table(
    path: Path, columns: Collection[str], title: str, remedy: str, *, optional: Collection[str] = ()
) -> pd.DataFrame:
    """Read some columns of a table as text; an empty cell is an empty text.

    Separators are commas, semicolons, tabs or bars. A byte order mark is ignored.

    Args:
        path: A CSV file, gzipped if its suffix is ``.gz``.
        columns: Names of the required columns.
        title: The displayed name of the data set.
        remedy: What to do if the file is not the expected table.
        optional: Names of columns that are read if they exist.

    Raises:
        DataError: The file cannot be read, has no rows, or lacks columns, which the message lists.
    """
    try:
        separator, names = _header(path)
        missing = [column for column in columns if column not in names]
        if missing:
            raise DataError(
                f"{title}: {path} has no column {', '.join(missing)}.",
                f"{remedy} Columns of the file: {', '.join(filter(None, names))}.",
                field="data.root",
            )
        wanted = {*columns, *optional}
        read = pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, index_col=False,
            encoding="utf-8-sig", encoding_errors="replace",
            usecols=lambda name: str(name).strip() in wanted,
        )  # fmt: skip
    except (OSError, EOFError, ValueError, zlib.error, pd.errors.ParserError) as error:
        raise DataError(
            f"{title}: the table {path} cannot be read ({error}).", remedy, field="data.root"
        ) from error
    if read.empty:
        raise DataError(f"{title}: the table {path} has no rows.", remedy, field="data.root")
    read.columns = pd.Index([str(column).strip() for column in read.columns])
    return read.fillna("")


def each_once(read: pd.DataFrame, key: str, path: Path) -> pd.DataFrame:
    """Drop repeated rows of a table, so that each key occurs once.

    Raises:
        DataError: Two rows have the same key and differ.
    """
    repeated = read[read[key].duplicated(keep=False)]
    if repeated.empty:
        return read
    distinct = repeated.drop_duplicates()
    contradictory = list(map(str, distinct[key][distinct[key].duplicated()].unique()))
    if contradictory:
        raise_or_collect(
            "contradictory labels",
            contradictory,
            DataError(
                f"{path} contains contradictory rows for {len(contradictory):,} entries "
                f"({examples(contradictory)}).",
                "Restore the file.",
                field="data.root",
            ),
        )
    keys = list(map(str, repeated[key][repeated[key].duplicated()].unique()))
    warn(
        "repeated rows",
        keys,
        f"{path.name} contains {len(keys):,} entries several times.",
        "Nothing needs to be done: each entry is used once.",
    )
    return read.drop_duplicates(key)


def _header(path: Path) -> tuple[str, list[str]]:
    """Return the separator and the names of the columns."""
    with path.open("rb") as stored:
        unzipped = gzip.GzipFile(fileobj=stored) if path.suffix == ".gz" else stored
        with io.TextIOWrapper(unzipped, "utf-8-sig", errors="replace", newline=None) as file:
            line = file.readline(LONGEST_HEADER)
    separator = max(",;\t|", key=line.count)
    return separator, [name.strip() for name in next(csv.reader([line], delimiter=separator), [])]
