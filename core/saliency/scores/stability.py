"""Whether a map stays what it is when the picture hardly changes, and whether maps agree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

Map = NDArray[np.float32]
Maps = Callable[[Tensor], Map]
"""Maps of shape (batch, height, width) of a network's input of shape (batch, channels, …)."""

NOISE = 0.05
"""Standard deviation, as a share of that of the normalised picture, which is about 1."""

SHIFTS = ((0, 4), (0, -4), (4, 0), (-4, 0))
"""Rows and columns, in pixels of the input."""


def correlation(first: Map, second: Map, *, ranked: bool = True) -> float:
    """Agreement of two maps over the pixels that both know.

    Args:
        first: A map of any shape.
        second: A map of the same shape.
        ranked: Spearman's rank correlation, as Adebayo et al. 2018 take; otherwise Pearson's.

    Returns:
        −1 to 1; NaN where a map is the same everywhere.
    """
    both = np.isfinite(first) & np.isfinite(second)
    a, b = first[both].astype(np.float64), second[both].astype(np.float64)
    if ranked:
        a, b = rankdata(a), rankdata(b)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float((a @ b) / np.sqrt((a @ a) * (b @ b)))


def under_noise(
    maps: Maps, pixels: Tensor, *, noise: float = NOISE, copies: int = 2, seed: int = 0
) -> NDArray[np.float64]:
    """Mean rank correlation of each picture's map with those of noisy copies.

    Args:
        maps: Makes the maps.
        pixels: Network input of shape (batch, channels, height, width).
        noise: Standard deviation of the noise, in units of the normalised input.
        copies: Noisy copies a picture.
        seed: Seed of the noise.

    Returns:
        Shape (batch,); NaN where a map is the same everywhere.
    """
    generator = torch.Generator().manual_seed(seed)
    plain = maps(pixels)
    found: list[list[float]] = []
    for _ in range(copies):
        drawn = torch.randn(1, 1, *pixels.shape[2:], generator=generator).to(pixels.device)
        noisy = maps(pixels + noise * drawn)
        found.append([correlation(a, b) for a, b in zip(plain, noisy, strict=True)])
    means: NDArray[np.float64] = np.asarray(found, np.float64).mean(axis=0)
    return means


def under_shifts(
    maps: Maps, pixels: Tensor, *, shifts: tuple[tuple[int, int], ...] = SHIFTS
) -> NDArray[np.float64]:
    """Mean rank correlation of each picture's map with those of shifted copies, shifted back.

    Args:
        maps: Makes the maps.
        pixels: Network input of shape (batch, channels, height, width).
        shifts: Rows and columns to shift by; what comes in at the edge repeats it.

    Returns:
        Shape (batch,), over the pixels that both pictures show; NaN where a map is the same
        everywhere.
    """
    plain = maps(pixels)
    found: list[list[float]] = []
    for rows, columns in shifts:
        moved = maps(_shifted(pixels, rows, columns))
        there, here = _overlap(rows, columns)
        found.append(
            [correlation(a[here], b[there]) for a, b in zip(plain, moved, strict=True)]
        )  # fmt: skip
    means: NDArray[np.float64] = np.asarray(found, np.float64).mean(axis=0)
    return means


def _shifted(pixels: Tensor, rows: int, columns: int) -> Tensor:
    height, width = pixels.shape[-2:]
    down = (torch.arange(height) - rows).clamp(0, height - 1)
    across = (torch.arange(width) - columns).clamp(0, width - 1)
    return pixels[..., down, :][..., across]


def _overlap(rows: int, columns: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The same places in the shifted picture and in the plain one."""
    pairs = [
        (slice(max(by, 0), min(by, 0) or None), slice(max(-by, 0), min(-by, 0) or None))
        for by in (rows, columns)
    ]
    return (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])
