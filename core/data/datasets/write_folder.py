"""Any data set written out as a folder of pictures with a table, as one of a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from core.data.base import ChestDataset
from core.errors import DataError

TABLE = "labels.csv"


def save(dataset: ChestDataset, folder: Path, ids: Sequence[str] | None = None) -> Path:
    """Write studies as PNG files and a table that the data set ``folder`` opens.

    A folder that has its table already is left as it is, since the table is written last.

    Args:
        dataset: Where the studies come from.
        folder: Where they go; it is made.
        ids: Which ones; by default all.

    Returns:
        The folder.

    Raises:
        DataError: A picture cannot be read, or the folder cannot be written.
    """
    if (folder / TABLE).is_file():
        return folder
    chosen = list(dataset.table.index.astype(str)) if ids is None else list(ids)
    rows = dataset.table.loc[chosen].copy()
    rows.insert(0, "path", [f"{one}.png" for one in chosen])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one in chosen:
            Image.fromarray(dataset.read(one)).save(folder / f"{one}.png")
        partial = folder / f".{TABLE}.part"
        rows.to_csv(partial, index=False)
        partial.replace(folder / TABLE)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error.strerror}).", "Choose another folder."
        ) from error
    return folder
