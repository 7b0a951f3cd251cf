"""Pre-rendered phantoms: reading one takes half a millisecond instead of 25 to render it.

They are the images of the default run, which therefore starts at once. Rendering gives the same
pixels; all other phantoms are rendered when they are read. ``python -m core.build_assets.phantoms``
writes the file.
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
    """Return the name of an image in the file.

    Args:
        dataset: Name of the data set.
        side: Shorter side in pixels.
        study_id: The study.
        source: What the pixels are made from, including the version of the renderer.
    """
    return f"{dataset}/{side}/{study_id} {source}.png"


def find(name: str) -> NDArray[np.uint8] | None:
    """Return an image of shape (height, width); None if it does not exist or is damaged."""
    file = _opened()
    try:
        return None if file is None else np.asarray(Image.open(io.BytesIO(file.read(name))))
    except (KeyError, OSError, zipfile.BadZipFile):
        return None


def has(name: str) -> bool:
    """Whether an image of this name exists."""
    file = _opened()
    return file is not None and name in file.NameToInfo


@lru_cache(maxsize=1)
def _opened() -> zipfile.ZipFile | None:
    try:
        return zipfile.ZipFile(FILE)
    except (OSError, zipfile.BadZipFile):
        return None  # all phantoms are then rendered
