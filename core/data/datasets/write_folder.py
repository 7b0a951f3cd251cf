"""Writing of any data set as a folder of images with a table of labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from core.data.base import ChestDataset
from core.errors import DataError
from core.files import write_atomically

TABLE = "labels.csv"
REMEDY = "Choose another folder, or free space on its disk."


def save(dataset: ChestDataset, folder: Path, ids: Sequence[str] | None = None) -> Path:
    """Write studies, by default all, as PNG files and a table that the data set ``folder`` opens.

    The table is written last. A folder that contains it is complete and is not changed.

    Raises:
        DataError: An image cannot be read, or the folder cannot be written.
    """
    if (folder / TABLE).is_file():
        return folder
    chosen = list(dataset.table.index.astype(str)) if ids is None else list(ids)
    rows = dataset.table.loc[chosen].copy()
    rows.insert(0, "path", [f"{study}.png" for study in chosen])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for study in chosen:
            Image.fromarray(dataset.read(study)).save(folder / f"{study}.png")
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}).", REMEDY) from error
    write_atomically(folder / TABLE, rows.to_csv(index=False).encode(), REMEDY)
    return folder
