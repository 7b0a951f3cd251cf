"""VinDr-CXR (Nguyen et al., Scientific Data 2022), DICOM files as PhysioNet publishes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from core.data import splits
from core.data.base import SPLITS, Box
from core.data.datasets.files import (
    UNSEEN,
    DicomDataset,
    check_empty,
    check_missing,
    pictures,
    unpacked,
)
from core.data.datasets.published_tables import each_once, read_table
from core.data.findings import VINDR, VINDR_27
from core.data.problems import examples, refuse
from core.errors import DataError

FOLDERS = ("1.0.0", "vindr-cxr/1.0.0", "physionet.org/files/vindr-cxr/1.0.0")
"""Where the set may lie below the folder that a download makes."""

NORMAL = "No finding"
ALIASES = {"Other disease": "Other diseases"}
"""The tables of the two parts call one diagnosis differently."""

WORDS = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "": 0.0, "nan": 0.0}
EDGES = ("x_min", "y_min", "x_max", "y_max")
VALIDATION = {"val": 0.1}
REMEDY = "Download it from physionet.org/content/vindr-cxr, or name another folder."


class Vindr(DicomDataset):
    """18,000 frontal radiographs that radiologists read, with boxes.

    The test pictures carry the consensus of five radiologists. Each training picture was read by
    three of seventeen by themselves: a finding is present where more than half of its readers saw
    it, and not known where the votes are equal (which three readers never are). Boxes of every
    reader are kept for findings that are present so.

    Args:
        root: The folder with ``train``, ``test`` and ``annotations``, or one above it. What is
            known of the layout: ``train/ID.dicom``, ``test/ID.dicom``; in ``annotations`` the
            tables ``image_labels_{train,test}.csv`` (``image_id``, in the training part
            ``rad_id``, a column a finding) and ``annotations_{train,test}.csv`` (``image_id``,
            ``class_name``, ``x_min y_min x_max y_max``). Validation is drawn from the training
            part.
        findings: ``14`` of the public challenge, or all ``27``.

    Raises:
        DataError: Something is missing or contradictory.
    """

    title = "VinDr-CXR"
    licence = "PhysioNet Credentialed Health Data License 1.5.0"
    citation = "Nguyen et al., Scientific Data 2022, doi 10.1038/s41597-022-01498-w"

    def __init__(self, root: Path, *, findings: str = "14") -> None:
        self.name = "vindr"
        self.findings = {"14": VINDR, "27": VINDR_27}[findings]
        self.root = unpacked(Path(root), "annotations", FOLDERS, self.title, REMEDY)
        self.split_name = "official, validation drawn from the training part"
        self.notes = (
            "The set names no patients: two pictures of one person may stand in two splits.",
            "In training and validation a finding is present where most of the three radiologists "
            "saw it; in the test split five agreed on each.",
            UNSEEN,
        )
        train, test = self._labels("train"), self._labels("test")
        train["split"] = splits.stratified(
            [str(one) for one in train.index],
            train[list(self.findings)].to_numpy(np.float32),
            VALIDATION,
            "vindr validation",
        )
        table = pd.concat([train, test.assign(split="test")])
        table.insert(0, "patient", table.index)
        splits.check_shared_patients(table, self.title)
        self.table = table[~table.index.duplicated()]
        self.files = self._located()
        counts = {one: int((self.table["split"] == one).sum()) for one in SPLITS}
        check_empty(self.title, counts, [f"the tables in {self.root / 'annotations'}"])
        self._boxes: dict[str, tuple[Box, ...]] | None = None

    def boxes(self, study_id: str) -> tuple[Box, ...]:
        """The boxes of all readers, in pixels of the original picture."""
        if self._boxes is None:
            self._boxes = self._read_boxes()
        return self._boxes.get(study_id, ())

    def _labels(self, part: str) -> pd.DataFrame:
        """Rows of one part, indexed by picture: votes counted, ``split`` empty."""
        path = self.root / "annotations" / f"image_labels_{part}.csv"
        other = [one for one in self.findings if one in ALIASES.values()]
        needed = [one for one in self.findings if one not in other]
        read = read_table(
            path, ["image_id", *needed], self.title, REMEDY,
            optional=["rad_id", *other, *ALIASES],
        ).rename(columns=ALIASES)  # fmt: skip
        readers = read["rad_id"] if "rad_id" in read.columns else ""
        read["vote"] = read["image_id"] + " " + readers
        read = each_once(read, "vote", path)
        ids = read["image_id"].to_numpy(str)
        votes = pd.DataFrame({name: self._votes(read, name, path) for name in self.findings})
        share = votes.groupby(ids, sort=False).mean()
        table = pd.DataFrame(index=pd.Index(share.index.astype(str), name="id"))
        table["split"], table["sex"], table["age"], table["view"] = "", "", np.nan, ""
        for name in self.findings:
            votes_for = share[name]
            table[name] = np.where(votes_for > 0.5, 1.0, np.where(votes_for < 0.5, 0.0, np.nan))
        return table

    def _votes(self, read: pd.DataFrame, name: str, path: Path) -> pd.Series:
        if name not in read.columns:
            raise DataError(
                f"{self.title}: {path} has no column {name}.", REMEDY, field="data.root"
            )
        found = read[name].str.strip().str.lower().map(WORDS)
        odd = [str(one) for one in read["image_id"][found.isna()]]
        if odd:
            refuse(
                "unknown labels",
                odd,
                DataError(
                    f"{path}: {len(odd):,} cells of the column “{name}” are no labels "
                    f"({examples(odd)}).",
                    "Restore the file; labels are 1 and 0.",
                    field="data.root",
                ),
            )
        return found.reset_index(drop=True).astype(float)

    def _located(self) -> dict[str, str]:
        there = {
            (part, Path(name).stem): f"{part}/{name}"
            for part in ("train", "test")
            if (self.root / part).is_dir()
            for name in pictures(self.root / part)
        }
        places = {"train": "train", "val": "train", "test": "test"}
        listed = {str(one): (places[str(split)], str(one))
                  for one, split in self.table["split"].items()}  # fmt: skip
        missing = [one for one, place in listed.items() if place not in there]
        check_missing(
            self.title,
            missing,
            len(listed),
            f"Complete {self.root}, or cut the tables to the pictures that are there.",
        )
        return {one: there[place] for one, place in listed.items() if place in there}

    def _read_boxes(self) -> dict[str, tuple[Box, ...]]:
        found: dict[str, list[Box]] = {}
        for part in ("train", "test"):
            path = self.root / "annotations" / f"annotations_{part}.csv"
            if not path.is_file():
                continue
            read = read_table(path, ["image_id", "class_name", *EDGES], self.title, REMEDY)
            edges = read[list(EDGES)].apply(pd.to_numeric, errors="coerce")
            names = read["class_name"].str.strip().replace(ALIASES)
            wanted = (names != NORMAL) & read["image_id"].isin(self.table.index)
            self._check_boxes(path, read, names, edges.isna().any(axis=1), wanted)
            rows = zip(read["image_id"], names, edges.to_numpy(float), strict=True)
            for keep, (one, name, (left, top, right, bottom)) in zip(wanted, rows, strict=True):
                if keep and name in self.findings and self.table.at[one, name] == 1:
                    box = Box(name, left, top, right - left, bottom - top)
                    found.setdefault(str(one), []).append(box)
        return {one: tuple(boxes) for one, boxes in found.items()}

    def _check_boxes(
        self, path: Path, read: pd.DataFrame, names: pd.Series, gaps: pd.Series, wanted: pd.Series
    ) -> None:
        odd = wanted & (gaps | ~names.isin([*VINDR_27]))
        if odd.any():
            line = int(np.flatnonzero(odd.to_numpy())[0]) + 2
            words = ",".join(map(str, read.iloc[line - 2]))
            raise DataError(f"Line {line} of {path} is no box: “{words[:80]}”.", REMEDY)
