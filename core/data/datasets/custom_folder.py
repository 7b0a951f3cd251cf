"""A user's own data set: class folders, or images with a table of labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from core.data import splits
from core.data.base import SPLITS
from core.data.datasets.files import (
    FileDataset,
    check_files,
    check_splits,
    images_below,
    subfolders,
)
from core.data.datasets.folder_description import Description, describe, pairs
from core.data.datasets.label_table import read_label_table
from core.data.problems import examples, raise_or_collect, warn
from core.errors import DataError

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Names of the splits that are recognised, in lower case."""

NORMAL = frozenset(
    {"normal", "no finding", "no findings", "healthy", "negative", "none", "clear", "control"}
)
"""Class folders of images without a finding, in lower case, with ``_`` and ``-`` as spaces."""

SHARES = {"test": 0.2, "val": 0.1}
"""Shares of the patients that are drawn for missing splits."""

TABLE_SUFFIXES = {".csv", ".tsv"}


class Folder(FileDataset):
    """A user's own radiographs.

    Layouts: ``train/CLASS/…``, ``val/CLASS/…``, ``test/CLASS/…``; ``CLASS/…``; or one CSV file (or
    ``train.csv``, ``val.csv``, ``test.csv``) with a path and one column per finding. Missing splits
    are drawn by patient, stratified by finding. Settings that cannot be guessed are given in a file
    ``dataset.json`` in the folder, in another JSON file that contains the path of the folder and is
    given as ``root``, or by keyword; see ``Description``.

    Args:
        root: The folder, or a JSON file that describes it.
        patient: Regular expression for the patient in an image's path below the folder: its
            groups, or the whole match if it has none.
        findings: Columns or class folders that are findings; or their displayed names, by column.
        normal: Class folders, or words, that mean "no finding".
        table: Name of the CSV file.
        columns: Names of the columns ``path``, ``patient``, ``split``, ``sex``, ``age``, ``view``,
            ``label``; or a text of the form ``path=File, patient=PatID``.
        labels: ``findings`` as a text: ``Edema, Fx=Fracture``.
        title: The displayed name of the data set.

    Raises:
        DataError: The layout is not recognised, something is missing, or a patient is in two
            splits.
    """

    name = "folder"
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
        about = describe(Path(root), {key: given[key] for key in given if given[key] is not None})
        self.root = about.folder
        self.title = about.title or self.root.name
        self.licence = about.licence or "not stated"
        tables = _tables(self.root, about.table)
        rows = self._from_tables(tables, about) if tables else self._from_folders(about)
        self.findings = tuple(name for name in rows.columns if name not in ROLES)
        self.files = {path: path for path in rows.index}
        self.table = self._with_splits(self._with_patients(rows, about.patient))
        splits.check_shared_patients(self.table, self.title)
        check_splits(self.title, self.table, f"the folders or the column of splits in {self.root}")

    def _from_folders(self, about: Description) -> pd.DataFrame:
        """Return the rows of images in class folders."""
        folders = {folder: SPLIT_NAMES.get(folder.name.lower()) for folder in subfolders(self.root)}
        parts = [(split, folder) for folder, split in folders.items() if split]
        images: list[tuple[str, str, str]] = []
        for split, part in parts or [("", self.root)]:
            for folder in subfolders(part):
                prefix = folder.relative_to(self.root).as_posix()
                images += [
                    (f"{prefix}/{path.as_posix()}", split, folder.name)
                    for path in images_below(folder)
                ]
        if not images:
            raise DataError(
                f"{self.root} contains neither a table of labels (CSV) nor folders of images named "
                "after findings.",
                "Sort the images into folders such as NORMAL and Pneumonia, or add a CSV file with "
                "a column path and one column per finding.",
                field="data.root",
            )
        rows = pd.DataFrame(images, columns=["id", "split", "class"]).set_index("id")
        findings = _class_findings(sorted(set(rows["class"])), about)
        table = _empty_roles(rows.index)
        table["split"] = rows["split"]
        for name in dict.fromkeys(findings.values()):
            classes = [folder for folder, finding in findings.items() if finding == name]
            table[name] = rows["class"].isin(classes).astype(float)
        return table

    def _from_tables(self, tables: dict[str, Path], about: Description) -> pd.DataFrame:
        """Return the rows of one table, or of one table per split."""
        parts = []
        for split, path in tables.items():
            part = read_label_table(path, about, NORMAL)
            if split:
                part["split"] = split
            parts.append(part)
        rows = pd.concat(parts)
        self._check_repeated(rows)
        rows = rows[~rows.index.duplicated()]
        rows["split"] = self._splits_of(rows["split"])
        paths = check_files(
            self.title,
            self._resolve_paths(list(map(str, rows.index))),
            f"Correct the paths or restore the files. Paths are relative to {self.root}, or to the "
            "folder images in it.",
        )
        return rows.loc[list(paths)].rename(index=paths)

    def _check_repeated(self, rows: pd.DataFrame) -> None:
        names = [name for name in rows.columns if name not in ROLES]
        labels = rows[names].fillna(-1)
        repeated = list(dict.fromkeys(rows.index[rows.index.duplicated()]))
        contradictory = [
            str(path) for path in repeated if len(labels.loc[[path]].drop_duplicates()) > 1
        ]
        if contradictory:
            raise_or_collect(
                "contradictory labels",
                contradictory,
                DataError(
                    f"{self.title}: {len(contradictory):,} images have several rows with different "
                    f"labels ({examples(contradictory)}).",
                    "Keep one row per image.",
                    field="data.root",
                ),
            )
        warn(
            "repeated rows",
            list(map(str, repeated)),
            f"{self.title}: {len(repeated):,} images have several rows; the first row is used.",
            "Keep one row per image.",
        )

    def _splits_of(self, words: pd.Series) -> list[str]:
        known = words.str.lower().map(SPLIT_NAMES)
        unknown = words.astype(bool) & known.isna()
        if unknown.any():
            raise_or_collect(
                "unknown splits",
                list(map(str, words.index[unknown])),
                DataError(
                    f"{self.title}: the table contains the split “{words[unknown].iloc[0]}”.",
                    f"Known splits: {', '.join(SPLIT_NAMES)}.",
                    field="data.root",
                ),
            )
        return list(map(str, known.fillna("")))

    def _resolve_paths(self, names: Sequence[str]) -> dict[str, str | None]:
        """Return each path of the table relative to the root; None if the file does not exist."""
        paths: dict[str, str | None] = {}
        outside = []
        for name in names:
            path = Path(name.replace("\\", "/"))
            if path.is_absolute() and path.is_relative_to(self.root):
                path = path.relative_to(self.root)
            if path.is_absolute() or ".." in path.parts:
                outside.append(name)
                continue
            candidates = (path, "images" / path)
            existing = (c.as_posix() for c in candidates if (self.root / c).is_file())
            paths[name] = next(existing, None)
        if outside:
            raise_or_collect(
                "paths outside the folder",
                outside,
                DataError(
                    f"{self.title}: the path “{outside[0]}” is outside of the folder {self.root}.",
                    "Give paths relative to the folder, and keep the images in it.",
                    field="data.root",
                ),
            )
        return paths

    def _with_patients(self, rows: pd.DataFrame, pattern: str | None) -> pd.DataFrame:
        if pattern is None:
            known = rows["patient"].astype(bool)
            rows["patient"] = rows["patient"].where(known, rows.index.to_series())
            if not known.all():
                self.notes = (
                    f"The patient of {(~known).sum():,} of {len(rows):,} images is unknown, and "
                    "each counts as a patient of its own. If there are several images of one "
                    "patient, results are too good. Give a patient column or a patient pattern.",
                )
            return rows
        try:
            matches = [re.search(pattern, str(path)) for path in rows.index]
        except re.error as error:
            raise DataError(
                f"The patient pattern “{pattern}” is not a regular expression ({error}).",
                "Correct it, for example to (patient\\d+).",
                field="data.patient",
            ) from error
        without = [
            str(path) for path, match in zip(rows.index, matches, strict=True) if match is None
        ]
        if without:
            raise_or_collect(
                "patients unknown",
                without,
                DataError(
                    f"{self.title}: the patient pattern “{pattern}” does not match "
                    f"{len(without):,} of {len(rows):,} paths ({examples(without)}).",
                    "Change the pattern so that it matches every path.",
                    field="data.patient",
                ),
            )
        rows["patient"] = [
            ("-".join(filter(None, match.groups())) or match[0]) if match else path
            for path, match in zip(rows.index, matches, strict=True)
        ]
        return rows

    def _with_splits(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Draw missing splits from the training part."""
        given = set(rows["split"])
        missing = {split: share for split, share in SHARES.items() if split not in given}
        if "" in given and len(given) > 1:
            blank = list(map(str, rows.index[rows["split"] == ""]))
            raise_or_collect(
                "unknown splits",
                blank,
                DataError(
                    f"{self.title}: {len(blank):,} rows have no split, the others have one.",
                    "Give a split for every row, or for none.",
                    field="data.root",
                ),
            )
            rows["split"] = rows["split"].replace("", "train")
        self.split_name, self.drawn_test = "as given", "test" in missing
        if not missing:
            return rows
        open_rows = rows["split"].isin(["", "train"])
        part = rows[open_rows]
        labels = part[list(self.findings)].to_numpy(np.float32)
        rows.loc[open_rows, "split"] = splits.stratified(
            part["patient"].tolist(), labels, missing, "folder"
        )
        drawn = " and ".join(split for split in SPLITS if split in missing)
        self.split_name = f"{drawn} drawn by patient"
        if given != {""}:
            self.split_name += ", the rest as given"
        return rows


ROLES = ("patient", "split", "sex", "age", "view")
"""Columns of a table of studies that are not findings."""


def _empty_roles(index: pd.Index) -> pd.DataFrame:
    table = pd.DataFrame(index=index)
    table["patient"], table["split"], table["sex"] = "", "", ""
    table["age"], table["view"] = np.nan, ""
    return table


def _tables(root: Path, name: str | None) -> dict[str, Path]:
    """Return the tables of labels by split; under an empty name if there is one for all splits."""
    if name is not None:
        path = root / name
        if not path.is_file() or not path.resolve().is_relative_to(root.resolve()):
            raise DataError(
                f"There is no table {name} in {root}.", "Correct its name.", field="data.table"
            )
        return {"": path}
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)
    if not tables:
        return {}
    if len(tables) == 1:
        return {"": tables[0]}
    by_split = {SPLIT_NAMES.get(path.stem.lower(), ""): path for path in tables}
    if "" not in by_split and len(by_split) == len(tables):
        return by_split
    raise DataError(
        f"{root} contains several tables ({examples(path.name for path in tables)}).",
        'Give the table of labels in a file dataset.json: {"table": "labels.csv"}.',
        field="data.root",
    )


def _class_findings(classes: Sequence[str], about: Description) -> dict[str, str]:
    """Return the finding of each class folder, without the folders of normal images."""
    normal = {_plain(name) for name in about.normal} or NORMAL
    others = [name for name in classes if _plain(name) not in normal]
    if about.findings:
        unknown = [name for name in others if name not in about.findings]
        if unknown:
            raise DataError(
                f"The class folders {', '.join(unknown)} are not among the findings "
                f"{', '.join(about.findings)}.",
                "Add them to the findings, or to the normal classes.",
                field="data.root",
            )
        return {name: title for name, title in about.findings.items() if name in others}
    if not others:
        raise DataError(
            f"All class folders ({', '.join(classes)}) are for images without a finding.",
            "Name at least one folder after a finding.",
            field="data.root",
        )
    return {name: name for name in others}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().lower()
