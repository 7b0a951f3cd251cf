"""A folder of the user's own: class folders, or a table of labels beside pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from core.data import splits
from core.data.base import SPLITS
from core.data.datasets.files import FileDataset, check_empty, check_missing, pictures_below
from core.data.datasets.folder_description import Description, describe, pairs
from core.data.datasets.label_table import read_spreadsheet
from core.data.problems import examples, refuse, warn
from core.errors import DataError

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""How people name the splits, in lower case."""

NORMAL = frozenset(
    {"normal", "no finding", "no findings", "healthy", "negative", "none", "clear", "control"}
)
"""Class folders that hold pictures without a finding, in lower case, ``_`` and ``-`` as spaces."""

SHARES = {"test": 0.2, "val": 0.1}
"""What is drawn for splits that the folder does not have."""

TABLE_SUFFIXES = {".csv", ".tsv"}


class Folder(FileDataset):
    """A user's own radiographs.

    Layouts: ``train/CLASS/…``, ``val/CLASS/…``, ``test/CLASS/…``; ``CLASS/…``; or one CSV file (or
    ``train.csv``, ``val.csv``, ``test.csv``) with a path and one column a finding. Splits that are
    not there are drawn by patient, stratified by finding. What cannot be guessed is said in a file
    ``dataset.json`` in the folder, in a JSON file anywhere that names the folder and is given as
    ``root``, or by keyword; see ``Description``.

    Args:
        root: The folder, or a JSON file that describes it.
        patient: Regular expression that finds the patient in a picture's path below the folder: its
            groups, or the whole match if it has none.
        findings: Columns or class folders that are findings; or their names for people, by column.
        normal: Class folders, or words, that stand for "no finding".
        table: Name of the CSV file.
        columns: Names of the columns ``path``, ``patient``, ``split``, ``sex``, ``age``, ``view``,
            ``label``; or a text such as ``path=File, patient=PatID``.
        labels: ``findings`` as a text: ``Edema, Fx=Fracture``.
        title: The data set's name for people.

    Raises:
        DataError: The layout is not understood, something is missing, or a patient stands in two
            splits.
    """

    citation = ""

    def __init__(
        self,
        root: Path,
        *,
        patient: str | None = None,
        findings: Sequence[str] | Mapping[str, str] | None = None,
        normal: Sequence[str] | None = None,
        table: str | None = None,
        columns: Mapping[str, str] | str | None = None,
        labels: str | None = None,
        title: str | None = None,
    ) -> None:
        if isinstance(columns, str):
            columns = pairs(columns, "columns")
        if labels is not None:
            findings = pairs(labels, "labels")
        given = {
            "patient": patient, "findings": findings, "normal": normal, "table": table,
            "columns": columns, "title": title,
        }  # fmt: skip
        about = describe(Path(root), {name: one for name, one in given.items() if one is not None})
        self.name = "folder"
        self.root = about.folder
        self.title = about.title or self.root.name
        self.licence = about.licence or "not stated"
        tables = _tables(self.root, about.table)
        rows = self._tabled(tables, about) if tables else self._sorted(about)
        self.findings = tuple(one for one in rows.columns if one not in ROLES)
        self.files = {one: one for one in rows.index}
        self.table = self._with_splits(self._with_patients(rows, about.patient))
        splits.check_shared_patients(self.table, self.title)
        counts = {one: int((self.table["split"] == one).sum()) for one in SPLITS}
        check_empty(self.title, counts, [f"the folders or the column of splits in {self.root}"])

    def _sorted(self, about: Description) -> pd.DataFrame:
        """Rows of pictures sorted into class folders."""
        places = [(SPLIT_NAMES.get(one.name.lower(), ""), one) for one in _folders(self.root)]
        parts = [(split, one) for split, one in places if split] or [("", self.root)]
        found: list[tuple[str, str, str]] = []
        for split, part in parts:
            for one in _folders(part):
                named = (below.as_posix() for below in pictures_below(one))
                found += [
                    (f"{one.relative_to(self.root).as_posix()}/{name}", split, one.name)
                    for name in named
                ]
        if not found:
            raise DataError(
                f"{self.root} holds neither a table of labels (CSV) nor folders of pictures named "
                "after findings.",
                "Sort the pictures into folders such as NORMAL and Pneumonia, or add a CSV file "
                "with the columns path and one a finding.",
                field="data.root",
            )
        rows = pd.DataFrame(found, columns=["id", "split", "class"]).set_index("id")
        findings = _class_findings(sorted(set(rows["class"])), about)
        table = _empty_roles(rows.index)
        table["split"] = rows["split"]
        for name in dict.fromkeys(findings.values()):
            having = [one for one, finding in findings.items() if finding == name]
            table[name] = rows["class"].isin(having).astype(float)
        return table

    def _tabled(self, tables: dict[str, Path], about: Description) -> pd.DataFrame:
        """Rows of one table, or of one a split."""
        parts = []
        for split, path in tables.items():
            part = read_spreadsheet(path, about, NORMAL)
            if split:
                part["split"] = split
            parts.append(part)
        rows = pd.concat(parts)
        names = [one for one in rows.columns if one not in ROLES]
        labels = rows[names].fillna(-1)
        twice = rows.index[rows.index.duplicated()]
        unclear = [
            str(one) for one in dict.fromkeys(twice) if len(labels.loc[[one]].drop_duplicates()) > 1
        ]
        if unclear:
            refuse(
                "contradictory labels",
                unclear,
                DataError(
                    f"{self.title}: {len(unclear):,} pictures stand in several rows with different "
                    f"labels ({examples(unclear)}).",
                    "Keep one row a picture.",
                    field="data.root",
                ),
            )
        again = [str(one) for one in dict.fromkeys(twice)]
        warn(
            "repeated rows",
            again,
            f"{self.title}: {len(again):,} pictures stand in several rows; the first one counts.",
            "Keep one row a picture.",
        )
        rows = rows[~rows.index.duplicated()]
        rows["split"] = self._splits_of(rows["split"])
        below = self._inside([str(one) for one in rows.index])
        missing = [one for one, path in below.items() if path is None]
        check_missing(
            self.title,
            missing,
            len(below),
            f"Paths are read from {self.root}, or from a folder images in it; correct them or "
            "restore the files.",
        )
        found = {one: path for one, path in below.items() if path is not None}
        return rows.loc[list(found)].rename(index=found)

    def _splits_of(self, words: pd.Series) -> list[str]:
        known = words.str.lower().map(SPLIT_NAMES)
        odd = words.astype(bool) & known.isna()
        if odd.any():
            word = str(words[odd].iloc[0])
            refuse(
                "unknown splits",
                [str(one) for one in words.index[odd]],
                DataError(
                    f"{self.title}: the table names a split “{word}”.",
                    f"Known: {', '.join(SPLIT_NAMES)}.",
                    field="data.root",
                ),
            )
        return [str(one) for one in known.fillna("")]

    def _inside(self, names: Sequence[str]) -> dict[str, str | None]:
        """Where each path of the table leads, relative to the root; None if nowhere."""
        found: dict[str, str | None] = {}
        outside = []
        for named in names:
            path = Path(named.replace("\\", "/"))
            if path.is_absolute() and path.is_relative_to(self.root):
                path = path.relative_to(self.root)
            if path.is_absolute() or ".." in path.parts:
                outside.append(named)
                continue
            there = (one for one in (path, "images" / path) if (self.root / one).is_file())
            found[named] = next((one.as_posix() for one in there), None)
        if outside:
            refuse(
                "paths outside the folder",
                outside,
                DataError(
                    f"{self.title}: the path “{outside[0]}” leads out of the folder {self.root}.",
                    "Give paths relative to the folder, and keep the pictures in it.",
                    field="data.root",
                ),
            )
        return found

    def _with_patients(self, rows: pd.DataFrame, pattern: str | None) -> pd.DataFrame:
        if pattern is None:
            known = rows["patient"].astype(bool)
            rows["patient"] = rows["patient"].where(known, rows.index.to_series())
            if not known.all():
                self.notes = (
                    f"{(~known).sum():,} of {len(rows):,} pictures name no patient and count as "
                    "patients of their own; if there are several of one person, results look "
                    "better than they are. Give a patient column or a patient pattern.",
                )
            return rows
        try:
            searched = [re.search(pattern, str(one)) for one in rows.index]
        except re.error as error:
            raise DataError(
                f"The patient pattern “{pattern}” is no regular expression ({error}).",
                "Correct it; for example (patient\\d+).",
                field="data.patient",
            ) from error
        without = [
            str(one) for one, found in zip(rows.index, searched, strict=True) if found is None
        ]
        if without:
            refuse(
                "patients unknown",
                without,
                DataError(
                    f"{self.title}: the patient pattern “{pattern}” finds nothing in "
                    f"{len(without):,} of {len(rows):,} paths ({examples(without)}).",
                    "Widen the pattern so that it fits every path.",
                    field="data.patient",
                ),
            )
        rows["patient"] = [
            ("-".join(group for group in found.groups() if group) or found[0]) if found else one
            for one, found in zip(rows.index, searched, strict=True)
        ]
        return rows

    def _with_splits(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Draw the splits that are not there from the training part."""
        there = set(rows["split"])
        lacking = {one: share for one, share in SHARES.items() if one not in there}
        if "" in there and len(there) > 1:
            blank = int((rows["split"] == "").sum())
            refuse(
                "unknown splits",
                [str(one) for one in rows.index[rows["split"] == ""]],
                DataError(
                    f"{self.title}: {blank:,} rows name no split, the others do.",
                    "Give every row a split, or none.",
                    field="data.root",
                ),
            )
            rows["split"] = rows["split"].replace("", "train")
        self.split_name = "as given"
        if not lacking:
            return rows
        open_rows = rows["split"].isin(["", "train"])
        part = rows[open_rows]
        labels = part[list(self.findings)].to_numpy(np.float32)
        rows.loc[open_rows, "split"] = splits.stratified(
            part["patient"].tolist(), labels, lacking, "folder"
        )
        drawn = " and ".join(one for one in SPLITS if one in lacking)
        self.split_name = f"{drawn} drawn by patient"
        if there != {""}:
            self.split_name += ", the rest as given"
        return rows


ROLES = ("patient", "split", "sex", "age", "view")
"""Columns of a table of studies that are no findings."""


def _empty_roles(index: pd.Index) -> pd.DataFrame:
    table = pd.DataFrame(index=index)
    table["patient"], table["split"], table["sex"] = "", "", ""
    table["age"], table["view"] = np.nan, ""
    return table


def _folders(folder: Path) -> list[Path]:
    try:
        found = [one for one in folder.iterdir() if one.is_dir()]
    except OSError as error:
        raise DataError(
            f"The folder {folder} cannot be read ({error.strerror}).",
            "Check that it exists and that you may read it.",
            field="data.root",
        ) from error
    return sorted(one for one in found if one.name[0] not in "._")


def _tables(root: Path, named: str | None) -> dict[str, Path]:
    """The CSV files that hold labels, by split; under an empty name if there is one for all."""
    if named is not None:
        path = root / named
        if not path.is_file() or not path.resolve().is_relative_to(root.resolve()):
            raise DataError(
                f"There is no table {named} in {root}.", "Correct its name.", field="data.table"
            )
        return {"": path}
    found = sorted(one for one in root.iterdir() if one.suffix.lower() in TABLE_SUFFIXES)
    if not found:
        return {}
    if len(found) == 1:
        return {"": found[0]}
    by_split = {SPLIT_NAMES.get(one.stem.lower(), ""): one for one in found}
    if "" not in by_split and len(by_split) == len(found):
        return by_split
    raise DataError(
        f"{root} holds several tables ({examples(one.name for one in found)}).",
        'Say which one has the labels, in a file dataset.json: {"table": "labels.csv"}.',
        field="data.root",
    )


def _class_findings(classes: Sequence[str], about: Description) -> dict[str, str]:
    """The finding that each class folder stands for; those of normal pictures are left out."""
    normal = {_plain(one) for one in about.normal} or NORMAL
    others = [one for one in classes if _plain(one) not in normal]
    if about.findings:
        named = {name: about.findings[name] for name in others if name in about.findings}
        unknown = [one for one in others if one not in named]
        if unknown:
            raise DataError(
                f"The class folders {', '.join(unknown)} are none of the findings "
                f"{', '.join(about.findings)}.",
                "Add them to the findings, or to the normal classes.",
                field="data.root",
            )
        return {name: named[name] for name in about.findings if name in named}
    if not others:
        raise DataError(
            f"All class folders ({', '.join(classes)}) stand for pictures without a finding.",
            "Name at least one folder after a finding.",
            field="data.root",
        )
    return {one: one for one in others}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().lower()
