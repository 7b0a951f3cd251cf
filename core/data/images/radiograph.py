"""A radiograph with all grey levels of its file, for the viewer; models use its 8-bit version."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One radiograph at full depth.

    Attributes:
        levels: Grey levels of shape (height, width); black is air. A level times ``slope`` plus
            ``intercept`` is the value in the file's own units.
        grey: The same image in 0 to 255, as models read it, of the same shape.
        bits: Bits per pixel that the file stores.
        window: Lowest and highest level of the initial window; None for all levels.
        spacing: Millimetres from row to row and from column to column; None if not known.
        at_detector: Whether ``spacing`` was measured at the detector, where structures appear
            larger than they are in the patient.
        slope: Units per level; negative if the file stores air as white.
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


def from_grey(grey: NDArray[np.uint8]) -> Radiograph:
    """Make a radiograph from an 8-bit image without further information."""
    return Radiograph(grey, grey)
