"""Pixel arithmetic of grey images: size limits, resizing, stretching."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.errors import DataError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
"""Formats read by Pillow. No others: some of its plugins start programs (EPS) or follow links."""

MAX_PIXELS = 80_000_000
"""A radiograph has up to about 30 million; more is a damaged header or a decompression bomb."""

MAX_ASPECT = 8.0
"""Longer over shorter side; beyond it a resized copy would be huge, and no radiograph is like it.
"""

TAILS = (0.001, 0.999)
"""Shares of the pixels between which grey levels of more than 8 bits are stretched where the file
gives no window: a dead pixel or a burnt-in marker must not darken the whole picture."""


def resize(picture: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """Resize so that the shorter side has ``short_side`` pixels (bicubic, antialiased).

    From four times the size on, blocks of pixels are averaged first: in a third of the time, and by
    a grey level at most in the mean of a radiograph's pixels.

    Args:
        picture: Shape (height, width).
        short_side: Pixels wanted.

    Returns:
        A picture of the same aspect ratio, to the nearest pixel.
    """
    if min(picture.shape) == short_side:
        return picture
    return np.asarray(resize_pillow(Image.fromarray(picture), short_side))


def resize_pillow(picture: Image.Image, short_side: int) -> Image.Image:
    """Resize a Pillow image so that its shorter side has ``short_side`` pixels."""
    scale = short_side / min(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    if size == picture.size:
        return picture
    return picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def stretch(values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Map grey levels of up to 16 bits to 0..255, linearly between the quantiles ``TAILS``."""
    lowest = int(values.min())
    places = values.astype(np.int64) - lowest
    low, high = quantiles(np.bincount(places.ravel()))
    table = ramp(np.arange(places.max() + 1), float(low), float(high))
    found: NDArray[np.uint8] = table[places]
    return found


def quantiles(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the quantiles ``TAILS`` of a histogram lie, as indices of its bins."""
    share = np.cumsum(counts) / counts.sum()
    return np.searchsorted(share, TAILS)


def ramp(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    """Map ``low`` to 0 and ``high`` to 255, linearly, and what lies beyond to these; black if the
    two are equal.
    """
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    share = (values.astype(np.float64) - low) / (high - low)
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)


def check_size(name: str, width: int, height: int) -> None:
    """Refuse what cannot be a radiograph by its size alone, before its pixels are decoded.

    Raises:
        DataError: Too many pixels, none, or too narrow.
    """
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name} claims {width} × {height} pixels; at most {MAX_PIXELS:,} are read.",
            "Export it at a smaller size; radiographs have up to 30 million pixels.",
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise DataError(
            f"{name} has {width} × {height} pixels: no radiograph is that narrow.",
            "Choose the picture itself, not a strip or a line of it.",
        )
