"""Stability of maps under small changes of the image, and agreement between maps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

Map = NDArray[np.float32]
Explain = Callable[[Tensor], Map]
"""Computes maps of shape (batch, height, width) from input of shape (batch, channels, …)."""

NOISE = 0.05
"""Standard deviation, as a share of that of the normalised image, which is about 1."""

SHIFTS = ((0, 4), (0, -4), (4, 0), (-4, 0))
"""Rows and columns, in pixels of the input."""


def correlation(first: Map, second: Map, *, ranked: bool = True) -> float:
    """Correlation of two maps over the pixels where both are finite.

    Spearman's rank correlation, as in Adebayo et al. 2018, or Pearson's if not ``ranked``.

    Returns:
        −1 to 1; NaN if a map has the same value everywhere.
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
    explain: Explain, pixels: Tensor, *, noise: float = NOISE, copies: int = 2, seed: int = 0
) -> NDArray[np.float64]:
    """Mean rank correlation of the map of each image with those of noisy copies.

    Args:
        explain: Computes the maps.
        pixels: Network input of shape (batch, channels, height, width).
        noise: Standard deviation of the noise, in units of the normalised input.
        copies: Noisy copies per image.
        seed: Seed of the noise.

    Returns:
        Shape (batch,); NaN if a map has the same value everywhere.
    """
    generator = torch.Generator().manual_seed(seed)
    originals = explain(pixels)
    correlations: list[list[float]] = []
    for _ in range(copies):
        # One noise for all channels, which are copies of one grey image.
        drawn = torch.randn(1, 1, *pixels.shape[2:], generator=generator).to(pixels.device)
        noisy = explain(pixels + noise * drawn)
        correlations.append([correlation(a, b) for a, b in zip(originals, noisy, strict=True)])
    means: NDArray[np.float64] = np.asarray(correlations, np.float64).mean(axis=0)
    return means


def under_shifts(
    explain: Explain, pixels: Tensor, *, shifts: tuple[tuple[int, int], ...] = SHIFTS
) -> NDArray[np.float64]:
    """Mean rank correlation of the map of each image with those of shifted copies, shifted back.

    Args:
        explain: Computes the maps.
        pixels: Network input of shape (batch, channels, height, width).
        shifts: Rows and columns to shift by; pixels that enter repeat the edge.

    Returns:
        Shape (batch,), over the pixels that both copies contain; NaN if a map has the same value
        everywhere.
    """
    originals = explain(pixels)
    correlations: list[list[float]] = []
    for rows, columns in shifts:
        shifted = explain(_shifted(pixels, rows, columns))
        in_shifted, in_original = _overlap(rows, columns)
        correlations.append(
            [
                correlation(a[in_original], b[in_shifted])
                for a, b in zip(originals, shifted, strict=True)
            ]
        )
    means: NDArray[np.float64] = np.asarray(correlations, np.float64).mean(axis=0)
    return means


def _shifted(pixels: Tensor, rows: int, columns: int) -> Tensor:
    height, width = pixels.shape[-2:]
    source_rows = (torch.arange(height) - rows).clamp(0, height - 1)
    source_columns = (torch.arange(width) - columns).clamp(0, width - 1)
    return pixels[..., source_rows, :][..., source_columns]


def _overlap(rows: int, columns: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The same locations in the shifted image and in the original."""
    pairs = [
        (slice(max(by, 0), min(by, 0) or None), slice(max(-by, 0), min(-by, 0) or None))
        for by in (rows, columns)
    ]
    return (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])
