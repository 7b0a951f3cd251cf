"""ChestMNIST and PneumoniaMNIST of MedMNIST v2 (Yang et al. 2023), from a local npz file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.data import findings
from core.data.base import SPLITS, ChestDataset
from core.data.datasets.npz import NpzPictures, read_labels
from core.data.images import grey
from core.data.images.reader import VERSION
from core.errors import DataError

SIZES = (224, 128, 64, 28)
"""Sides in pixels that MedMNIST is released at; the largest that is there is read."""

FINDINGS = {"chestmnist": findings.NIH, "pneumoniamnist": findings.RSNA}
TITLES = {"chestmnist": "ChestMNIST", "pneumoniamnist": "PneumoniaMNIST"}
LICENCES = {
    "chestmnist": "CC BY 4.0; pictures: NIH Clinical Center, with attribution",
    "pneumoniamnist": "CC BY 4.0",
}


class MedMnist(ChestDataset):
    """Small squares of NIH ChestX-ray14, or of the paediatric radiographs of Kermany et al.

    Args:
        root: Folder with ``chestmnist.npz``, ``chestmnist_64.npz``, … ``_224.npz``, or one such
            file.
        flag: ``chestmnist`` or ``pneumoniamnist``.

    Raises:
        DataError: The file is missing or damaged.
    """

    reader_version = VERSION
    citation = "Yang et al., Scientific Data 2023, doi 10.1038/s41597-022-01721-8"

    def __init__(self, root: Path, flag: str) -> None:
        self.name = flag
        self.title = TITLES[flag]
        self.licence = LICENCES[flag]
        self.findings = FINDINGS[flag]
        self.root = Path(root)
        self.file = self._located(self.root, flag)
        self.pictures = {one: NpzPictures(self.file, f"{one}_images") for one in SPLITS}
        side = self.pictures["train"].width
        self.split_name = f"official (MedMNIST), {side} px"
        self.notes = (
            "MedMNIST names no patients: each picture counts as a patient of its own, in label "
            "fractions and in intervals.",
        )
        self.table = pd.concat([self._part(one) for one in SPLITS])

    def read(self, study_id: str, short_side: int | None = None) -> NDArray[np.uint8]:
        """Read one picture; see ``ChestDataset.read``."""
        split, number = self._place(study_id)
        picture = self.pictures[split][number]
        return picture if short_side is None else grey.resize(picture, short_side)

    def source_key(self, study_id: str) -> str:
        """Size and time of change of the npz file.

        Raises:
            DataError: The file is gone, or there is no such study.
        """
        self._place(study_id)
        try:
            found = self.file.stat()
        except OSError as error:
            raise DataError(
                f"The file {self.file} is gone ({error.strerror}).", "Restore it."
            ) from error
        return f"{found.st_size} {found.st_mtime_ns}"

    def _place(self, study_id: str) -> tuple[str, int]:
        split, _, number = study_id.partition("-")
        if split in SPLITS and number.isdecimal() and int(number) < self.pictures[split].count:
            return split, int(number)
        raise DataError(
            f"{self.title} has no study “{study_id}”.",
            "Give an id from the Data tab, such as train-000000.",
        )

    def _located(self, root: Path, flag: str) -> Path:
        if root.is_file():
            return root
        names = [f"{flag}{'' if side == 28 else f'_{side}'}.npz" for side in SIZES]
        for name in names:
            if (root / name).is_file():
                return root / name
        raise DataError(
            f"{self.title}: there is none of {', '.join(names)} in {root}.",
            f"Download {names[0]} from zenodo.org/records/10519652, or name another folder.",
            field="data.root",
        )

    def _part(self, split: str) -> pd.DataFrame:
        labels = read_labels(self.file, f"{split}_labels")
        count = self.pictures[split].count
        if labels.shape != (count, len(self.findings)) or not np.isin(labels, (0, 1)).all():
            raise DataError(
                f"{self.file} is not {self.title}: {count:,} pictures of {split}, labels of shape "
                f"{labels.shape}.",
                f"Name the folder of {self.title}, or choose the data set that the file is of.",
                field="data.root",
            )
        ids = [f"{split}-{number:06d}" for number in range(count)]
        table = pd.DataFrame(labels.astype(float), index=ids, columns=list(self.findings))
        table.insert(0, "patient", ids)
        table.insert(1, "split", split)
        table.insert(2, "sex", "")
        table.insert(3, "age", np.nan)
        table.insert(4, "view", "")
        return table
