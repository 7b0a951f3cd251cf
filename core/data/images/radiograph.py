"""A radiograph with all the grey levels its file holds, for the eye; models get 8 bits of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Radiograph:
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


def from_grey(grey: NDArray[np.uint8]) -> Radiograph:
    """The plate of a picture of which nothing but 8 bits is known."""
    return Radiograph(grey, grey)
