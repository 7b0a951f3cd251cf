"""RSNA Pneumonia Detection Challenge 2018 (Shih et al. 2019): DICOM files with boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from core.data import findings, splits
from core.data.base import Box
from core.data.datasets.files import DicomDataset, check_missing, check_splits, image_names
from core.data.datasets.published_tables import require_table
from core.data.datasets.registry import DATASETS
from core.data.problems import examples, raise_or_collect
from core.errors import DataError

LABELS = "stage_2_train_labels.csv"
FOLDERS = ("stage_2_train_images", "stage_2_test_images")
COLUMNS = ["patientId", "x", "y", "width", "height", "Target"]
PAPER_FOLDER = "RSNA_Pneumonia"
SHARES = {"test": 0.2, "val": 0.1}
REMEDY = "Download it from kaggle.com/c/rsna-pneumonia-detection-challenge, or give another folder."


class Rsna(DicomDataset):
    """26,684 labelled frontal radiographs from NIH ChestX-ray14, with boxes around lung opacities.

    Args:
        root: Folder with ``stage_2_train_labels.csv`` and ``stage_2_train_images``.
        split: ``drawn`` (train, val and test drawn from the labelled files) or ``paper`` (the lists
            of Lian et al., the only source of labels for ``stage_2_test_images``).

    Raises:
        DataError: Something is missing or contradictory.
    """

    name = "rsna"
    title = DATASETS[name].title
    licence = DATASETS[name].licence
    citation = "Shih et al., Radiology: Artificial Intelligence 2019, doi 10.1148/ryai.2019180041"

    def __init__(self, root: Path, split: str = "drawn") -> None:
        self.root = Path(root)
        self.findings = findings.RSNA
        self.notes = (
            "The data set does not identify patients: images of one patient may be in two splits.",
        )
        if split == "paper":
            self.split_name = "paper (Lian et al. 2024)"
            rows = self._paper()
            labelled = self._labels() if (self.root / LABELS).is_file() else None
        else:
            self.split_name = "drawn from the labelled files"
            labelled = self._labels()
            rows = self._drawn(labelled)
        self.files = dict(zip(rows["id"], rows["file"], strict=True))
        self._check_missing()
        self.table = _table(rows)
        self._boxes = {} if labelled is None else _boxes(labelled)
        check_splits(self.title, self.table, f"the labels or lists in {self.root}")

    def listed_as(self, study_id: str) -> str:
        """The file's path, as in the published lists."""
        return self.files[study_id]

    def boxes(self, study_id: str) -> tuple[Box, ...]:
        """The boxes of one study, in pixels of the original image."""
        return self._boxes.get(study_id, ())

    def _labels(self) -> pd.DataFrame:
        path = require_table(self.root, [LABELS], self.title, REMEDY)
        try:
            types = dict.fromkeys(COLUMNS, float) | {"patientId": str, "Target": int}
            read = pd.read_csv(path, usecols=COLUMNS, dtype=types)
        except (ValueError, OSError, pd.errors.ParserError) as error:
            raise DataError(
                f"{path} is not the table of {self.title} ({error}).", REMEDY, field="data.root"
            ) from error
        counts = read.groupby("patientId")["Target"].nunique()
        contradictory = list(map(str, counts.index[counts > 1]))
        if contradictory:
            raise_or_collect(
                "contradictory labels",
                contradictory,
                DataError(
                    f"{path} has both labels for {len(contradictory):,} images "
                    f"({examples(contradictory)}).",
                    "Restore the file.",
                    field="data.root",
                ),
            )
        unknown = list(map(str, read["patientId"][~read["Target"].isin([0, 1])].unique()))
        if unknown:
            raise_or_collect(
                "unknown labels",
                unknown,
                DataError(
                    f"{path} has labels other than 0 and 1 for {len(unknown):,} images "
                    f"({examples(unknown)}).",
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
                "file": [f"{FOLDERS[0]}/{study}.dcm" for study in ids],
                "label": labels[:, 0].astype(float),
                "split": splits.stratified(ids, labels, SHARES, "rsna"),
            }
        )

    def _paper(self) -> pd.DataFrame:
        parts = []
        for split, read in splits.published(self.root, PAPER_FOLDER, self.title, 1).items():
            if not {file.rpartition("/")[0] for file in read.files} <= {*FOLDERS}:
                raise DataError(
                    f"{self.title}: {splits.PUBLISHED[split]} is not the published list.",
                    "Restore it. Lines have the form “stage_2_train_images/NAME.dcm 0”.",
                    field="data.split",
                )
            ids = [Path(file).stem for file in read.files]
            part = {"id": ids, "file": read.files, "label": read.labels[:, 0].astype(float)}
            parts.append(pd.DataFrame(part).assign(split=split))
        return pd.concat(parts).drop_duplicates("id")

    def _check_missing(self) -> None:
        existing = {
            f"{folder}/{name}"
            for folder in FOLDERS
            if (self.root / folder).is_dir()
            for name in image_names(self.root / folder)
        }
        missing = [file for file in self.files.values() if file not in existing]
        check_missing(
            self.title,
            missing,
            len(self.files),
            f"Complete {self.root}, or remove the missing files from the labels or lists.",
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
    boxes: dict[str, list[Box]] = {}
    rows = labelled[(labelled["Target"] == 1) & labelled["x"].notna()]
    for study, *edges in rows[COLUMNS[:5]].itertuples(index=False):
        boxes.setdefault(str(study), []).append(Box(findings.RSNA[0], *map(float, edges)))
    return {study: tuple(listed) for study, listed in boxes.items()}
