"""A folder of radiographs without labels, for pre-training only."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from core.data.datasets.files import FileDataset, images_below
from core.errors import DataError


class Unlabelled(FileDataset):
    """All images in a folder and below it, as one training split without findings.

    Args:
        root: The folder.

    Raises:
        DataError: It contains no image.
    """

    name = "unlabelled"
    citation = ""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        names = [path.as_posix() for path in images_below(self.root)]
        if not names:
            raise DataError(
                f"{self.root} contains no image.",
                "Give a folder of PNG, JPEG or DICOM files.",
                field="data.root",
            )
        self.title, self.licence = self.root.name, "not stated"
        self.findings, self.split_name = (), "all images"
        self.files = dict(zip(names, names, strict=True))
        roles = {"patient": names, "split": "train", "sex": "", "age": float("nan"), "view": ""}
        self.table = pd.DataFrame(roles, index=pd.Index(names, name="id"))
