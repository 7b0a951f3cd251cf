"""From the grid of a layer to the coordinates of the original image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from core.data.transforms import Geometry

Positions = NDArray[np.floating[Any]]


def enlarge(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Enlarge maps bilinearly, with the value of each cell at the centre of its patch.

    Shape (batch, rows, columns) becomes (batch, height, width).
    """
    height, width = size
    # Pixel centres lie at half integers in both grids: without the halves a map would be shifted
    # by up to half a patch.
    rows = (np.arange(height) + 0.5) * values.shape[1] / height - 0.5
    columns = (np.arange(width) + 0.5) * values.shape[2] / width - 0.5
    return _sample(values, rows, columns)


def place(
    values: NDArray[np.float32], geometry: Geometry, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Invert the resize and centre crop of the evaluation transform.

    Args:
        values: A map of shape (side, side) over the network's input.
        geometry: How that input was cropped from the original image.
        size: Height and width of the original image.

    Returns:
        Shape (height, width), NaN outside of the crop.
    """
    height, width = size
    rows = (np.arange(height) + 0.5) * geometry.scale - geometry.top
    columns = (np.arange(width) + 0.5) * geometry.scale - geometry.left
    placed: NDArray[np.float32] = _sample(values[None], rows - 0.5, columns - 0.5)[0]
    # NaN and not 0: the network did not see these pixels, which is not the same as no influence.
    placed[(rows < 0) | (rows > values.shape[0]), :] = np.nan
    placed[:, (columns < 0) | (columns > values.shape[1])] = np.nan
    return placed


def _sample(
    values: NDArray[np.float32], rows: Positions, columns: Positions
) -> NDArray[np.float32]:
    """Bilinear samples of (batch, rows, columns) at fractional positions, edges repeated."""
    return _interpolate(_interpolate(values, rows, 1), columns, 2)


def _interpolate(
    values: NDArray[np.float32], positions: Positions, axis: int
) -> NDArray[np.float32]:
    last = values.shape[axis] - 1
    clipped = np.clip(positions, 0, last)
    below = np.floor(clipped).astype(np.intp)
    share = (clipped - below).astype(np.float32)
    share = share.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    lower, upper = np.take(values, below, axis), np.take(values, np.minimum(below + 1, last), axis)
    return np.asarray(lower + (upper - lower) * share, np.float32)
