"""Means over studies, with bootstrap intervals over patients.

A table of values has one row per study and one column per finding, NaN where a study has no value.
Columns are averaged separately, so that a frequent finding does not outweigh a rare one.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.metrics.intervals import Floats, Interval, PairedTest

DRAWS = 2000
"""Default number of bootstrap draws."""
WEIGHTS_PER_BATCH = 4_000_000
"""Bootstrap weights in memory at a time: draws × patients."""

Table = NDArray[np.float64]


def mean_interval(
    values: ArrayLike,
    patients: ArrayLike,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Mean of the columns' means, with a percentile interval over patients.

    Args:
        values: Shape (studies,) or (studies, findings), NaN where there is no value.
        patients: Shape (studies,): the patient of each study.
        draws: Number of resamples.
        seed: Seed of the resamples.
        level: Coverage.

    Returns:
        NaN if there is no value, NaN bounds if all values are of one patient.
    """
    table = _columns(values)
    return Interval(_mean(table), *_bounds(resampled_means(table, patients, draws, seed), level))


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    patients: ArrayLike,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> PairedTest:
    """First minus second on the studies that have both values, with the same draws of patients.

    Args:
        first: Shape (studies,) or (studies, findings), NaN where there is no value.
        second: The same shape.
        patients: Shape (studies,): the patient of each study.
        draws: Number of resamples.
        seed: Seed of the resamples.
        level: Coverage.

    Returns:
        p is twice the smaller share of draws on either side of zero, at least ``2 / (draws + 1)``;
        NaN if there is no interval.
    """
    a, b = _columns(first), _columns(second)
    both = ~np.isnan(a) & ~np.isnan(b)
    a, b = np.where(both, a, np.nan), np.where(both, b, np.nan)
    drawn = resampled_means(a - b, patients, draws, seed)
    low, high = _bounds(drawn, level)
    p = math.nan
    if not math.isnan(low):
        known = drawn[~np.isnan(drawn)]
        side = min(int((known <= 0).sum()), int((known >= 0).sum()))
        p = min(1.0, 2 * (side + 1) / (len(known) + 1))
    return PairedTest(_mean(a), _mean(b), Interval(_mean(a - b), low, high), math.nan, p)


def resampled_means(values: ArrayLike, patients: ArrayLike, draws: int, seed: int) -> Floats:
    """The mean of the columns' means in each bootstrap draw of patients.

    Returns:
        Shape (draws,); NaN in draws without any value, and everywhere if there is one patient.
    """
    table = _columns(values)
    _, patient = np.unique(np.asarray(patients), return_inverse=True)
    count = int(patient.max(initial=-1)) + 1
    if count < 2:
        return np.full(draws, np.nan)
    known = ~np.isnan(table)
    sums, counts = np.zeros((count, table.shape[1])), np.zeros((count, table.shape[1]))
    np.add.at(sums, patient, np.where(known, table, 0))
    np.add.at(counts, patient, known)
    valued = counts.any(axis=1)  # patients without a value would only reduce the draws' sizes
    sums, counts, count = sums[valued], counts[valued], int(valued.sum())
    if count < 2:
        return np.full(draws, np.nan)
    generator = np.random.default_rng(seed)
    means = []
    size = max(1, WEIGHTS_PER_BATCH // count)
    for start in range(0, draws, size):
        weights = generator.multinomial(count, np.full(count, 1 / count), min(size, draws - start))
        total = weights @ counts
        with np.errstate(invalid="ignore"):
            columns = np.where(total > 0, (weights @ sums) / np.maximum(total, 1), np.nan)
        means.append(_row_means(columns))
    return np.concatenate(means)


def _columns(values: ArrayLike) -> Table:
    table = np.asarray(values, np.float64)
    return table[:, None] if table.ndim == 1 else table


def _mean(table: Table) -> float:
    known = ~np.isnan(table)
    counts = known.sum(axis=0)
    columns = np.where(known, table, 0).sum(axis=0)[counts > 0] / counts[counts > 0]
    return float(columns.mean()) if len(columns) else math.nan


def _row_means(table: Table) -> Floats:
    known = ~np.isnan(table)
    counts = known.sum(axis=1)
    sums = np.where(known, table, 0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _bounds(drawn: Floats, level: float) -> tuple[float, float]:
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
