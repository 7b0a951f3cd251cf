"""The tables that data sets are published with: CSV, plain or gzipped, of known columns."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from core.data.problems import examples, refuse, warn
from core.errors import DataError

LONGEST_HEADER = 100_000
"""Characters of the first line that are read; a file that is no table may have no other."""


def find_table(folders: Sequence[Path], names: Sequence[str]) -> Path | None:
    """The first of some names, plain or with ``.gz``, that is a file in the first such folder."""
    places = (folder / f"{name}{zipped}" for folder in folders for name in names
              for zipped in ("", ".gz"))  # fmt: skip
    return next((one for one in places if one.is_file()), None)


def read_table(
    path: Path, columns: Collection[str], title: str, remedy: str, *, optional: Collection[str] = ()
) -> pd.DataFrame:
    """Read some columns of a table as texts, empty where a cell is.

    Separators are commas, semicolons, tabs or bars; a byte order mark is passed over.

    Args:
        path: A CSV file, gzipped if its name ends so.
        columns: Names of the columns that have to be there.
        title: The data set's name for people.
        remedy: What to do if it is not the table.
        optional: Names of columns that are read where they are there.

    Raises:
        DataError: The file cannot be read, lacks columns (all of them are named), or has no rows.
    """
    try:
        separator, names = _header(path)
        lacking = [one for one in columns if one not in names]
        if lacking:
            raise DataError(
                f"{title}: {path} has no column {', '.join(lacking)}.",
                f"{remedy} Columns there: {', '.join(one for one in names if one)}.",
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
    read.columns = pd.Index([str(one).strip() for one in read.columns])
    return read.fillna("")


def each_once(read: pd.DataFrame, key: str, path: Path) -> pd.DataFrame:
    """Rows of a table of which no two have the same key; repetitions are dropped.

    Raises:
        DataError: Two rows have the same key and differ.
    """
    twice = read[read[key].duplicated(keep=False)]
    if twice.empty:
        return read
    differing = twice.drop_duplicates()
    unclear = [str(one) for one in differing[key][differing[key].duplicated()].unique()]
    if unclear:
        refuse(
            "contradictory labels",
            unclear,
            DataError(
                f"{path} contradicts itself: {len(unclear):,} entries stand there twice and "
                f"differ ({examples(unclear)}).",
                "Restore the file.",
                field="data.root",
            ),
        )
    repeated = [str(one) for one in twice[key][twice[key].duplicated()].unique()]
    warn(
        "repeated rows",
        repeated,
        f"{path.name} repeats {len(repeated):,} of its entries.",
        "Nothing: each counts once.",
    )
    return read.drop_duplicates(key)


def _header(path: Path) -> tuple[str, list[str]]:
    """The separator, and the names of the columns."""
    with path.open("rb") as stored:
        unzipped = gzip.GzipFile(fileobj=stored) if path.suffix == ".gz" else stored
        with io.TextIOWrapper(unzipped, "utf-8-sig", errors="replace", newline=None) as file:
            line = file.readline(LONGEST_HEADER)
    separator = max(",;\t|", key=line.count)
    return separator, [one.strip() for one in next(csv.reader([line], delimiter=separator), [])]
