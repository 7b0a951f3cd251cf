"""A radiograph with all the grey levels its file holds, for the eye; models get 8 bits of it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from core.data.images import reader as images

Levels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Plate:
    """One picture at full depth.

    Attributes:
        levels: Shape (height, width), black is air. A level times ``slope`` plus ``intercept`` is
            the value that the file means.
        grey: The same picture in 0 to 255 as models get it, of the same shape.
        bits: Bits a pixel that the file stores.
        window: Lowest and highest level that are told apart at first; None for all.
        spacing: Millimetres from row to row and from column to column; None if not known.
        at_detector: Whether ``spacing`` was measured at the detector, where things are larger than
            in the patient.
        slope: Value a level stands for; negative where the file stores air as white.
        intercept: Value of level 0.
    """

    levels: Levels
    grey: NDArray[np.uint8]
    bits: int = 8
    window: tuple[float, float] | None = None
    spacing: tuple[float, float] | None = None
    at_detector: bool = False
    slope: float = 1.0
    intercept: float = 0.0


def plain(grey: NDArray[np.uint8]) -> Plate:
    """The plate of a picture of which nothing but 8 bits is known."""
    return Plate(grey, grey)


def read_plate(source: Path | bytes) -> Plate:
    """Read a PNG, JPEG, TIFF, BMP or DICOM file with all its grey levels.

    Args:
        source: A path, or the file's content.

    Raises:
        DataError: As ``images.read_image``.
    """
    grey = images.read_image(source)
    name, content = (
        ("The picture", source) if isinstance(source, bytes) else (source.name, source.read_bytes())
    )
    if content[128:132] == b"DICM" or name.lower().endswith((".dcm", ".dicom")):
        from core.data.images import dicom  # pydicom loads when it is needed

        return dicom.read_plate(name, content)
    deep = _deep(content)
    if deep is None:
        return plain(grey)
    counts = np.bincount(deep.ravel())
    low, high = images.quantiles(counts)
    return Plate(deep, grey, bits=16, window=(float(low), float(high)))


def _deep(content: bytes) -> NDArray[np.uint16] | None:
    """Levels of a picture of more than 8 bits; None for others."""
    with Image.open(io.BytesIO(content), formats=images.FORMATS) as opened:
        if not (opened.mode.startswith("I") or opened.mode == "F"):
            return None
        values = np.nan_to_num(np.asarray(ImageOps.exif_transpose(opened)).astype(np.float64))
    low, high = float(values.min()), float(values.max())
    if opened.mode == "F" or low < 0 or high > 65535:
        values = (values - low) * (65535 / max(high - low, 1e-12))
    return np.rint(values).clip(0, 65535).astype(np.uint16)
