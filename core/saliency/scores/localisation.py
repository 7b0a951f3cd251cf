"""Agreement of a map with the region that readers (or phantoms) marked, by published scores.

All scores compare a map of shape (height, width), NaN outside of the network's input, with a
region: a boolean mask of the same shape. Pixels of the region that the map does not cover count as
missed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.data.base import Box, ChestDataset
from core.errors import DataError

Map = NDArray[np.float32]
Region = NDArray[np.bool_]

BORDER = 1 / 16
"""Width of the border of an image, as a share of its side."""


@dataclass(frozen=True)
class Scores:
    """Agreement of one map with one region.

    Attributes:
        hit: Whether the map's peak is in the region (pointing game).
        energy: Share of the map's sum inside the region, 0 to 1; NaN for a map of zeros.
        iou: Intersection over union at the fixed threshold, 0 to 1.
        best_iou: The same at this map's best threshold: an upper bound, since the choice uses the
            region.
        best_threshold: That threshold as a share of the map's peak.
        area: Share of the image that the region covers: the ``energy`` of a uniform map.
    """

    hit: bool
    energy: float
    iou: float
    best_iou: float
    best_threshold: float
    area: float


def score(values: Map, region: Region, *, tolerance: float = 0, threshold: float = 0.5) -> Scores:
    """Compute all scores of one map against one region.

    Args:
        values: The map.
        region: The marked region.
        tolerance: Pixels around the region that still count as a hit.
        threshold: Threshold of the fixed IoU, as a share of the map's peak.

    Raises:
        DataError: Shapes differ, the region is empty or the map is NaN everywhere.
    """
    best, best_threshold = best_iou(values, region)
    return Scores(
        hit=pointing_game(values, region, tolerance),
        energy=energy_inside(values, region),
        iou=iou(values, region, threshold),
        best_iou=best,
        best_threshold=best_threshold,
        area=float(region.mean()),
    )


def region_of(boxes: Iterable[Box], shape: tuple[int, int]) -> Region:
    """The union of boxes as a mask: pixels whose centre is inside one of them.

    Args:
        boxes: Boxes in pixels of the image.
        shape: Height and width of the image.
    """
    mask = np.zeros(shape, dtype=np.bool_)
    y, x = np.arange(shape[0]) + 0.5, np.arange(shape[1]) + 0.5
    for box in boxes:
        rows = (y >= box.y) & (y <= box.y + box.height)
        columns = (x >= box.x) & (x <= box.x + box.width)
        mask |= rows[:, None] & columns[None, :]
    return mask


def border_of(shape: tuple[int, int], share: float = BORDER) -> Region:
    """The border of an image as a mask, where there is no lung: a ``share`` of each side."""
    mask = np.ones(shape, dtype=np.bool_)
    rows, columns = (max(1, round(share * length)) for length in shape)
    mask[rows:-rows, columns:-columns] = False
    return mask


def pointing_game(values: Map, region: Region, tolerance: float = 0) -> bool:
    """Whether the map's peak is in the region or at most ``tolerance`` pixels outside of it.

    Zhang et al., “Top-down Neural Attention by Excitation Backprop”, IJCV 2018 (with a tolerance of
    15 px); with tolerance 0 the hit of Saporta et al., Nature Machine Intelligence 2022. Of several
    equal peaks the one closest to their centre is used; a constant map has no peak and misses.

    Args:
        values: The map.
        region: The marked region.
        tolerance: In pixels of the map, 0 or more.

    Raises:
        DataError: Shapes differ, the region is empty or the map is NaN everywhere.
    """
    _check(values, region)
    high, low = float(np.nanmax(values)), float(np.nanmin(values))
    if high <= low:
        return False
    peaks = np.argwhere(values == high)
    peak = peaks[np.square(peaks - peaks.mean(axis=0)).sum(axis=1).argmin()]
    if region[tuple(peak)]:
        return True
    distance = np.square(np.argwhere(region) - peak).sum(axis=1).min()
    return bool(distance <= tolerance**2)


def energy_inside(values: Map, region: Region) -> float:
    """Share of the map's sum inside the region (energy-based pointing game).

    Wang et al., “Score-CAM”, CVPR workshops 2020. For a uniform map it is the region's share of the
    image, so that small regions have small energies.

    Returns:
        0 to 1; NaN if the map is zero everywhere.

    Raises:
        DataError: Shapes differ, the region is empty or the map is NaN everywhere.
    """
    _check(values, region)
    total = float(np.nansum(values, dtype=np.float64))
    if total <= 0:
        return math.nan
    return float(np.nansum(values[region], dtype=np.float64)) / total


def iou(values: Map, region: Region, threshold: float = 0.5) -> float:
    """Intersection over union of the region and the map, thresholded at a share of its peak.

    Zhou et al., “Learning Deep Features for Discriminative Localization”, CVPR 2016, use such a
    threshold to turn maps into boxes; Saporta et al. 2022 score the thresholded map itself, as this
    function does.

    Args:
        values: The map.
        region: The marked region.
        threshold: Share of the map's peak, above 0 and at most 1.

    Raises:
        DataError: Shapes differ, the region is empty, the map is NaN everywhere or the threshold is
            out of range.
    """
    _check(values, region)
    if not 0 < threshold <= 1:
        raise DataError(
            f"The threshold {threshold:g} is not a share of the map's peak.",
            "Give a value above 0 and at most 1.",
        )
    high = float(np.nanmax(values))
    if high <= 0:
        return 0.0
    salient = np.nan_to_num(values, nan=-1.0) >= np.float32(threshold * high)
    return float((salient & region).sum() / (salient | region).sum())


def best_iou(values: Map, region: Region) -> tuple[float, float]:
    """The highest intersection over union over all thresholds.

    The choice of the threshold uses the region, so that this is an upper bound. It separates a map
    of the right shape and wrong scale from one at the wrong location.

    Returns:
        The IoU, 0 to 1, and its threshold as a share of the map's peak.

    Raises:
        DataError: Shapes differ, the region is empty or the map is NaN everywhere.
    """
    _check(values, region)
    seen = np.isfinite(values)
    high = float(values[seen].max())
    if high <= 0:
        return 0.0, 1.0
    order = np.argsort(values[seen])[::-1]
    ranked, inside = values[seen][order], region[seen][order]
    # One pass over the sorted pixels gives the IoU at every threshold that occurs in the map.
    intersection = np.cumsum(inside, dtype=np.int64)
    count = np.arange(1, len(ranked) + 1)
    ious = intersection / (count + int(region.sum()) - intersection)
    # No threshold separates equal values, so that only the last of each is valid.
    ious[:-1][ranked[:-1] == ranked[1:]] = 0
    ious[ranked <= 0] = 0
    best = int(ious.argmax())
    return float(ious[best]), float(ranked[best] / high)


def _check(values: Map, region: Region) -> None:
    if values.shape != region.shape:
        raise DataError(
            f"The map has {values.shape[0]} × {values.shape[1]} px, the marked region "
            f"{region.shape[0]} × {region.shape[1]}.",
            "Give both in the coordinates of the original image.",
        )
    if not region.any():
        raise DataError("The marked region is empty.", "Score only studies with a box or mask.")
    if not np.isfinite(values).any():
        raise DataError(
            "The map has no finite value.", "Choose a study whose image the network's crop covers."
        )


def marked_region(
    dataset: ChestDataset, study_id: str, finding: str, shape: tuple[int, int]
) -> Region | None:
    """The marked region of a finding: its mask, or else its boxes; None if there is neither.

    Args:
        dataset: The data set.
        study_id: One of its studies.
        finding: One of its findings.
        shape: Height and width of the original image.
    """
    region = dataset.mask(study_id, finding)
    if region is None:
        boxes = [box for box in dataset.boxes(study_id) if box.finding == finding]
        region = region_of(boxes, shape)
    return region if region.any() else None
