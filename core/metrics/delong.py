"""DeLong's variance of the AUROC, its confidence interval, and the paired test."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from core.metrics.intervals import (
    Floats,
    Interval,
    PairedTest,
    codes,
    known_labels,
    normal_quantile,
)


def delong_covariance(
    labels: ArrayLike, models: Sequence[ArrayLike], patients: ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """AUROCs of several models on the same studies, with their covariance.

    The method of DeLong et al. (1988) in the fast form of Sun and Xu (2014). With ``patients``,
    studies are clustered by patient (Obuchowski 1997); with one study per patient the result is
    the same.

    Args:
        labels: Shape (studies,): 1, 0 or NaN.
        models: Scores of each model, each of shape (studies,).
        patients: Shape (studies,): the patient of each study.

    Returns:
        AUROCs of shape (models,) and their covariance of shape (models, models); NaN if there are
        fewer than two positives or negatives (or patients with them).

    Raises:
        ValueError: As for ``auroc``.
    """
    pairs = [known_labels(labels, scores) for scores in models]
    truth = pairs[0][0]
    patient = codes(labels, patients)
    positive, negative = np.flatnonzero(truth), np.flatnonzero(~truth)
    m, n, k = len(positive), len(negative), len(models)
    if m == 0 or n == 0:
        return np.full(k, np.nan), np.full((k, k), np.nan)
    above, below = np.empty((k, m)), np.empty((k, n))
    for i, (_, values) in enumerate(pairs):
        both = _midranks(np.concatenate([values[positive], values[negative]]))
        above[i] = (both[:m] - _midranks(values[positive])) / n
        below[i] = 1 - (both[m:] - _midranks(values[negative])) / m
    areas = above.mean(axis=1)
    sums = [
        np.stack(
            [
                np.bincount(patient[part], row, minlength=patient.max() + 1)
                for row in rows - areas[:, None]
            ]
        )
        for part, rows in ((positive, above), (negative, below))
    ]
    groups = [len(np.unique(patient[part])) for part in (positive, negative)]
    if min(groups) < 2:
        return areas, np.full((k, k), np.nan)
    total = len(np.unique(patient))
    # A patient with positive and negative studies correlates the two sums: s11 is zero without.
    s10, s01 = (g / (g - 1) * (rows @ rows.T) for g, rows in zip(groups, sums, strict=True))
    s11 = total / (total - 1) * (sums[0] @ sums[1].T)
    return areas, s10 / m**2 + s01 / n**2 + (s11 + s11.T) / (m * n)


def delong_interval(
    labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None = None, level: float = 0.95
) -> Interval:
    """AUROC with DeLong's confidence interval, clipped to 0 to 1.

    An AUROC of exactly 0 or 1 has an estimated variance of zero, which says nothing about the
    population. Its bounds are NaN, as with fewer than two positives or negatives.

    Args:
        labels: Shape (studies,): 1, 0 or NaN.
        scores: Same shape.
        patients: Shape (studies,), if patients have several studies.
        level: Coverage, 0 to 1.
    """
    areas, covariance = delong_covariance(labels, [scores], patients)
    area, variance = float(areas[0]), float(covariance[0, 0])
    if not variance > 1e-18:
        return Interval(area, math.nan, math.nan)
    half = normal_quantile(level) * math.sqrt(variance)
    return Interval(area, max(0.0, area - half), min(1.0, area + half))


def delong_paired(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    patients: ArrayLike | None = None,
    level: float = 0.95,
) -> PairedTest:
    """Test whether two models on the same studies have equal AUROC.

    Args:
        labels: Shape (studies,): 1, 0 or NaN.
        first: Scores of the first model, same shape.
        second: Scores of the second model, same shape.
        patients: Shape (studies,), if patients have several studies.
        level: Coverage of the difference's interval.

    Returns:
        z and p are NaN if there are too few studies; p is 1 for models with the same ranking.
    """
    areas, covariance = delong_covariance(labels, [first, second], patients)
    a, b = map(float, areas)
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if math.isnan(variance):
        return PairedTest(a, b, Interval(a - b, math.nan, math.nan), math.nan, math.nan)
    if variance <= 1e-18:
        if a == b:
            return PairedTest(a, b, Interval(0.0, 0.0, 0.0), 0.0, 1.0)
        return PairedTest(a, b, Interval(a - b, math.nan, math.nan), math.nan, math.nan)
    spread = math.sqrt(variance)
    z, half = (a - b) / spread, normal_quantile(level) * spread
    p = math.erfc(abs(z) / math.sqrt(2))
    return PairedTest(a, b, Interval(a - b, a - b - half, a - b + half), z, p)


def _midranks(values: Floats) -> Floats:
    """Ranks from 1; equal values get the mean of their ranks."""
    ordered = np.sort(values)
    first = np.searchsorted(ordered, values, "left")
    last = np.searchsorted(ordered, values, "right")
    ranks: Floats = (first + last + 1) / 2
    return ranks
