"""VinDr-CXR (Nguyen et al., Scientific Data 2022): DICOM files in the layout of PhysioNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from core.data import splits
from core.data.base import Box
from core.data.datasets.files import (
    UNTESTED,
    DicomDataset,
    check_files,
    check_splits,
    dataset_folder,
    image_names,
)
from core.data.datasets.published_tables import each_once, read_table
from core.data.datasets.registry import DATASETS
from core.data.findings import VINDR, VINDR_27
from core.data.problems import examples, raise_or_collect
from core.errors import DataError

FOLDERS = ("1.0.0", "vindr-cxr/1.0.0", "physionet.org/files/vindr-cxr/1.0.0")
"""Possible folders of the data set below the folder of a download."""

NORMAL = "No finding"
ALIASES = {"Other disease": "Other diseases"}
"""Diagnoses with different names in the tables of the two parts."""

WORDS = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "": 0.0, "nan": 0.0}
EDGES = ("x_min", "y_min", "x_max", "y_max")
VALIDATION = {"val": 0.1}
REMEDY = "Download it from physionet.org/content/vindr-cxr, or give another folder."


class Vindr(DicomDataset):
    """18,000 frontal radiographs that radiologists read, with boxes.

    The labels of a test image are the consensus of five radiologists. Each training image was read
    by three of seventeen radiologists independently: a finding is present if more than half of them
    reported it, and unknown if the votes are equal (which cannot happen with three). For findings
    that are present, the boxes of all readers are kept.

    Args:
        root: The folder with ``train``, ``test`` and ``annotations``, or one above it. The layout:
            ``train/ID.dicom``, ``test/ID.dicom``; in ``annotations`` the
            tables ``image_labels_{train,test}.csv`` (``image_id``, in the training part
            ``rad_id``, one column per finding) and ``annotations_{train,test}.csv`` (``image_id``,
            ``class_name``, ``x_min y_min x_max y_max``). Validation is drawn from the training
            part.
        findings: ``14`` of the public challenge, or all ``27``.

    Raises:
        DataError: Something is missing or contradictory.
    """

    name = "vindr"
    title = DATASETS[name].title
    licence = DATASETS[name].licence
    citation = "Nguyen et al., Scientific Data 2022, doi 10.1038/s41597-022-01498-w"

    def __init__(self, root: Path, *, findings: str = "14") -> None:
        self.findings = {"14": VINDR, "27": VINDR_27}[findings]
        self.root = dataset_folder(Path(root), "annotations", FOLDERS, self.title, REMEDY)
        self.split_name = "official, validation drawn from the training part"
        self.notes = (
            "The data set does not identify patients: images of one patient may be in two splits.",
            "In training and validation a finding is present if most of the three radiologists "
            "reported it; in the test split the labels are the consensus of five.",
            UNTESTED,
        )
        train, test = self._labels("train"), self._labels("test")
        train["split"] = splits.stratified(
            list(map(str, train.index)),
            train[list(self.findings)].to_numpy(np.float32),
            VALIDATION,
            "vindr validation",
        )
        table = pd.concat([train, test.assign(split="test")])
        table.insert(0, "patient", table.index)
        splits.check_shared_patients(table, self.title)
        self.table = table[~table.index.duplicated()]
        self.files = self._find_files()
        check_splits(self.title, self.table, f"the tables in {self.root / 'annotations'}")
        self._boxes: dict[str, tuple[Box, ...]] | None = None

    def boxes(self, study_id: str) -> tuple[Box, ...]:
        """The boxes of all readers, in pixels of the original image."""
        if self._boxes is None:
            self._boxes = self._read_boxes()
        return self._boxes.get(study_id, ())

    def _labels(self, part: str) -> pd.DataFrame:
        """Return the rows of one part, indexed by image, with majority labels and no split."""
        path = self.root / "annotations" / f"image_labels_{part}.csv"
        aliased = [name for name in self.findings if name in ALIASES.values()]
        required = [name for name in self.findings if name not in aliased]
        read = read_table(
            path, ["image_id", *required], self.title, REMEDY,
            optional=["rad_id", *aliased, *ALIASES],
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
        votes = read[name].str.strip().str.lower().map(WORDS)
        invalid = list(map(str, read["image_id"][votes.isna()]))
        if invalid:
            raise_or_collect(
                "unknown labels",
                invalid,
                DataError(
                    f"{path}: {len(invalid):,} cells of the column “{name}” are not labels "
                    f"({examples(invalid)}).",
                    "Restore the file. Labels are 1 and 0.",
                    field="data.root",
                ),
            )
        return votes.reset_index(drop=True).astype(float)

    def _find_files(self) -> dict[str, str]:
        paths = {
            (part, Path(name).stem): f"{part}/{name}"
            for part in ("train", "test")
            if (self.root / part).is_dir()
            for name in image_names(self.root / part)
        }
        parts = {"train": "train", "val": "train", "test": "test"}
        return check_files(
            self.title,
            {
                str(study): paths.get((parts[str(split)], str(study)))
                for study, split in self.table["split"].items()
            },
            f"Complete {self.root}, or remove the missing images from the tables.",
        )

    def _read_boxes(self) -> dict[str, tuple[Box, ...]]:
        boxes: dict[str, list[Box]] = {}
        for part in ("train", "test"):
            path = self.root / "annotations" / f"annotations_{part}.csv"
            if not path.is_file():
                continue
            read = read_table(path, ["image_id", "class_name", *EDGES], self.title, REMEDY)
            edges = read[list(EDGES)].apply(pd.to_numeric, errors="coerce")
            names = read["class_name"].str.strip().replace(ALIASES)
            used = (names != NORMAL) & read["image_id"].isin(self.table.index)
            self._check_boxes(path, read, names, edges.isna().any(axis=1), used)
            rows = zip(read["image_id"], names, edges.to_numpy(float), strict=True)
            for keep, (study, name, (left, top, right, bottom)) in zip(used, rows, strict=True):
                if keep and name in self.findings and self.table.at[study, name] == 1:
                    box = Box(name, left, top, right - left, bottom - top)
                    boxes.setdefault(str(study), []).append(box)
        return {study: tuple(listed) for study, listed in boxes.items()}

    def _check_boxes(
        self, path: Path, read: pd.DataFrame, names: pd.Series, gaps: pd.Series, used: pd.Series
    ) -> None:
        invalid = used & (gaps | ~names.isin([*VINDR_27]))
        if invalid.any():
            line = int(np.flatnonzero(invalid.to_numpy())[0]) + 2
            words = ",".join(map(str, read.iloc[line - 2]))
            raise DataError(f"Line {line} of {path} is not a box: “{words[:80]}”.", REMEDY)
