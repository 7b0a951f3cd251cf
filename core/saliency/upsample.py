"""A map's way from the layer's grid to the original picture's coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from core.data.transforms import Geometry

Places = NDArray[np.floating[Any]]


def enlarge(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Enlarge maps bilinearly, each cell's value at the centre of its patch.

    Args:
        values: Shape (batch, rows, columns).
        size: Height and width wanted.

    Returns:
        Shape (batch, height, width).
    """
    height, width = size
    down = (np.arange(height) + 0.5) * values.shape[1] / height - 0.5
    across = (np.arange(width) + 0.5) * values.shape[2] / width - 0.5
    return _sampled(values, down, across)


def place(
    values: NDArray[np.float32], geometry: Geometry, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Undo the evaluation transform's resize and centre crop.

    Args:
        values: A map of shape (side, side) over the network's input.
        geometry: How that input was cut out of the original picture.
        size: Height and width of the original picture.

    Returns:
        Shape (height, width), NaN where the crop left the picture out.
    """
    height, width = size
    down = (np.arange(height) + 0.5) * geometry.scale - geometry.top
    across = (np.arange(width) + 0.5) * geometry.scale - geometry.left
    found: NDArray[np.float32] = _sampled(values[None], down - 0.5, across - 0.5)[0]
    found[(down < 0) | (down > values.shape[0]), :] = np.nan
    found[:, (across < 0) | (across > values.shape[1])] = np.nan
    return found


def _sampled(values: NDArray[np.float32], down: Places, across: Places) -> NDArray[np.float32]:
    """Bilinear samples of (batch, rows, columns) at fractional rows and columns, edges held."""
    return _along(_along(values, down, 1), across, 2)


def _along(values: NDArray[np.float32], places: Places, axis: int) -> NDArray[np.float32]:
    last = values.shape[axis] - 1
    held = np.clip(places, 0, last)
    below = np.floor(held).astype(np.intp)
    share = (held - below).astype(np.float32)
    share = share.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    lower, upper = np.take(values, below, axis), np.take(values, np.minimum(below + 1, last), axis)
    return np.asarray(lower + (upper - lower) * share, np.float32)
