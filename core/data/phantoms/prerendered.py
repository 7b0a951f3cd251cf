"""Phantoms drawn beforehand: a picture is there in half a millisecond, in place of 25 to draw it.

The first run that anybody starts needs just these, so it waits for none. Drawing them gives the
same pixels, and whatever is not here is drawn. ``python -m core.build_assets.phantoms`` makes the
file.
"""

from __future__ import annotations

import io
import zipfile
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.workspace import PRECOMPUTED

FILE = PRECOMPUTED / "phantoms.zip"


def entry(dataset: str, side: int, study_id: str, source: str) -> str:
    """Name of a picture in the file.

    Args:
        dataset: Name of the data set.
        side: Shorter side in pixels.
        study_id: The study.
        source: What its pixels were made of, the drawing's version included.
    """
    return f"{dataset}/{side}/{study_id} {source}.png"


def find(name: str) -> NDArray[np.uint8] | None:
    """A picture of shape (height, width); None if there is none of this name, or it is damaged."""
    file = _opened()
    try:
        return None if file is None else np.asarray(Image.open(io.BytesIO(file.read(name))))
    except (KeyError, OSError, zipfile.BadZipFile):
        return None


def has(name: str) -> bool:
    """Whether there is a picture of this name."""
    file = _opened()
    return file is not None and name in file.NameToInfo


@lru_cache(maxsize=1)
def _opened() -> zipfile.ZipFile | None:
    try:
        return zipfile.ZipFile(FILE)
    except (OSError, zipfile.BadZipFile):
        return None  # then everything is drawn
