"""RSNA Pneumonia Detection Challenge 2018 (Shih et al. 2019), DICOM files with boxes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from core.data import findings, splits
from core.data.base import SPLITS, Box
from core.data.datasets.files import DicomDataset, check_empty, check_missing, pictures
from core.data.problems import examples, refuse
from core.errors import DataError

LABELS = "stage_2_train_labels.csv"
FOLDERS = ("stage_2_train_images", "stage_2_test_images")
COLUMNS = ["patientId", "x", "y", "width", "height", "Target"]
PAPER_FOLDER = "RSNA_Pneumonia"
SHARES = {"test": 0.2, "val": 0.1}
REMEDY = "Download it from kaggle.com/c/rsna-pneumonia-detection-challenge, or name another folder."


class Rsna(DicomDataset):
    """26,684 labelled frontal radiographs from NIH ChestX-ray14, with boxes around lung opacities.

    Args:
        root: Folder with ``stage_2_train_labels.csv`` and ``stage_2_train_images``.
        split: ``drawn`` (train, val and test drawn from the labelled files) or ``paper`` (the lists
            of Lian et al., whose test labels are the only ones for ``stage_2_test_images``).

    Raises:
        DataError: Something is missing or contradictory.
    """

    title = "RSNA Pneumonia Detection Challenge"
    licence = "Free to use with attribution to RSNA and the NIH Clinical Center"
    citation = "Shih et al., Radiology: Artificial Intelligence 2019, doi 10.1148/ryai.2019180041"

    def __init__(self, root: Path, split: str = "drawn") -> None:
        self.name = "rsna"
        self.root = Path(root)
        self.findings = findings.RSNA
        self.notes = (
            "The challenge names no patients: two pictures of one person may stand in two splits.",
        )
        if split == "paper":
            self.split_name = "paper (Lian et al. 2024)"
            rows = self._listed()
            labelled = self._labels() if (self.root / LABELS).is_file() else None
        elif split == "drawn":
            self.split_name = "drawn from the labelled files"
            labelled = self._labels()
            rows = self._drawn(labelled)
        else:
            raise DataError(
                f"{self.title} has no split “{split}”.", "Known: drawn, paper.", field="data.split"
            )
        self.files = dict(zip(rows["id"], rows["file"], strict=True))
        self._check_missing()
        self.table = _table(rows)
        self._boxes = {} if labelled is None else _boxes(labelled)
        counts = {one: int((self.table["split"] == one).sum()) for one in SPLITS}
        check_empty(self.title, counts, [f"the labels or lists in {self.root}"])

    def listed_as(self, study_id: str) -> str:
        """The file's path, as in the published lists."""
        return self.files[study_id]

    def boxes(self, study_id: str) -> tuple[Box, ...]:
        """The boxes of one study, in pixels of the original picture."""
        return self._boxes.get(study_id, ())

    def _labels(self) -> pd.DataFrame:
        path = self.root / LABELS
        if not path.is_file():
            raise DataError(
                f"{self.title}: there is no {LABELS} in {self.root}.", REMEDY, field="data.root"
            )
        try:
            kinds = dict.fromkeys(COLUMNS, float) | {"patientId": str, "Target": int}
            read = pd.read_csv(path, usecols=COLUMNS, dtype=kinds)
        except (ValueError, OSError, pd.errors.ParserError) as error:
            raise DataError(
                f"{path} is not the table of {self.title} ({error}).", REMEDY, field="data.root"
            ) from error
        targets = read.groupby("patientId")["Target"].nunique()
        unclear = [str(one) for one in targets.index[targets > 1]]
        if unclear:
            refuse(
                "contradictory labels",
                unclear,
                DataError(
                    f"{path} contradicts itself: {len(unclear):,} pictures have both labels "
                    f"({examples(unclear)}).",
                    "Restore the file.",
                    field="data.root",
                ),
            )
        odd = [str(one) for one in read["patientId"][~read["Target"].isin([0, 1])].unique()]
        if odd:
            refuse(
                "unknown labels",
                odd,
                DataError(
                    f"{path} gives {len(odd):,} pictures labels other than 0 and 1 "
                    f"({examples(odd)}).",
                    "Restore the file.",
                    field="data.root",
                ),
            )
        return read[read["Target"].isin([0, 1])]

    def _drawn(self, labelled: pd.DataFrame) -> pd.DataFrame:
        rows = labelled.drop_duplicates("patientId")
        ids = rows["patientId"].tolist()
        labels = rows[["Target"]].to_numpy(np.float32)
        return pd.DataFrame(
            {
                "id": ids,
                "file": [f"{FOLDERS[0]}/{one}.dcm" for one in ids],
                "label": labels[:, 0].astype(float),
                "split": splits.stratified(ids, labels, SHARES, "rsna"),
            }
        )

    def _listed(self) -> pd.DataFrame:
        parts = []
        for split, read in splits.published(self.root, PAPER_FOLDER, self.title).items():
            odd = [one for one in read.files if os.path.dirname(one) not in FOLDERS]  # noqa: PTH120
            if read.labels.shape[1] != 1 or odd:
                raise DataError(
                    f"{self.title}: {splits.PUBLISHED[split]} is not the published list.",
                    "Restore it: lines read “stage_2_train_images/NAME.dcm 0”.",
                    field="data.split",
                )
            ids = [Path(one).stem for one in read.files]
            part = {"id": ids, "file": read.files, "label": read.labels[:, 0].astype(float)}
            parts.append(pd.DataFrame(part).assign(split=split))
        return pd.concat(parts).drop_duplicates("id")

    def _check_missing(self) -> None:
        there = {
            f"{folder}/{name}"
            for folder in FOLDERS
            if (self.root / folder).is_dir()
            for name in pictures(self.root / folder)
        }
        missing = [file for file in self.files.values() if file not in there]
        check_missing(
            self.title,
            missing,
            len(self.files),
            f"Complete {self.root}, or cut the labels or lists to the files that are there.",
        )


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    ids = rows["id"].tolist()
    table = pd.DataFrame(index=pd.Index(ids, name="id"))
    table["patient"] = ids
    table["split"] = rows["split"].tolist()
    table["sex"], table["age"], table["view"] = "", np.nan, ""
    table[findings.RSNA[0]] = rows["label"].tolist()
    return table


def _boxes(labelled: pd.DataFrame) -> dict[str, tuple[Box, ...]]:
    found: dict[str, list[Box]] = {}
    marked = labelled[(labelled["Target"] == 1) & labelled["x"].notna()]
    for one, *edges in marked[COLUMNS[:5]].itertuples(index=False):
        found.setdefault(str(one), []).append(Box(findings.RSNA[0], *map(float, edges)))
    return {one: tuple(boxes) for one, boxes in found.items()}
