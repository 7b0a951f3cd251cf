"""ChestMNIST and PneumoniaMNIST of MedMNIST v2 (Yang et al. 2023), from a local npz file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.data.base import SPLITS, ChestDataset
from core.data.datasets.npz import NpzImages, read_labels
from core.data.datasets.registry import DATASETS
from core.data.images import grey
from core.data.images.reader import VERSION
from core.errors import DataError

SIZES = (224, 128, 64, 28)
"""Sides in pixels of the released files; the largest existing one is read."""


class MedMnist(ChestDataset):
    """Square images of NIH ChestX-ray14, or of the paediatric radiographs of Kermany et al.

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
        entry = DATASETS[flag]
        self.name = flag
        self.title = entry.title
        self.licence = entry.licence
        self.findings = entry.findings
        self.root = Path(root)
        self.file = self._find_file(self.root, flag)
        self.images = {split: NpzImages(self.file, f"{split}_images") for split in SPLITS}
        side = self.images["train"].width
        self.split_name = f"official (MedMNIST), {side} px"
        self.notes = (
            "MedMNIST does not identify patients: each image counts as a patient of its own, in "
            "label fractions and in confidence intervals.",
        )
        self.table = pd.concat([self._part(split) for split in SPLITS])

    def read(self, study_id: str, short_side: int | None = None) -> NDArray[np.uint8]:
        """Read one radiograph; see ``ChestDataset.read``."""
        split, number = self._position(study_id)
        image = self.images[split][number]
        return image if short_side is None else grey.resize(image, short_side)

    def source_key(self, study_id: str) -> str:
        """Size and time of change of the npz file.

        Raises:
            DataError: The file does not exist, or there is no such study.
        """
        self._position(study_id)
        try:
            status = self.file.stat()
        except OSError as error:
            raise DataError(
                f"The file {self.file} cannot be found ({error.strerror}).", "Restore the file."
            ) from error
        return f"{status.st_size} {status.st_mtime_ns}"

    def _position(self, study_id: str) -> tuple[str, int]:
        split, _, number = study_id.partition("-")
        if split in SPLITS and number.isdecimal() and int(number) < self.images[split].count:
            return split, int(number)
        raise DataError(
            f"{self.title} has no study “{study_id}”.",
            "Give an id from the Data page, such as train-000000.",
        )

    def _find_file(self, root: Path, flag: str) -> Path:
        if root.is_file():
            return root
        names = [f"{flag}{'' if side == 28 else f'_{side}'}.npz" for side in SIZES]
        for name in names:
            if (root / name).is_file():
                return root / name
        raise DataError(
            f"{self.title}: {root} contains none of {', '.join(names)}.",
            f"Download {names[0]} from zenodo.org/records/10519652, or give another folder.",
            field="data.root",
        )

    def _part(self, split: str) -> pd.DataFrame:
        labels = read_labels(self.file, f"{split}_labels")
        count = self.images[split].count
        if labels.shape != (count, len(self.findings)) or not np.isin(labels, (0, 1)).all():
            raise DataError(
                f"{self.file} is not {self.title}: it has {count:,} images for {split} and labels "
                f"of shape {labels.shape}.",
                f"Give the folder of {self.title}, or choose the data set of this file.",
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
