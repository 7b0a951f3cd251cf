"""Tests of two ways of training over seeds: a single run per side does not cover other seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from core.metrics.intervals import Interval, student_p, student_t


@dataclass(frozen=True)
class SeedsTest:
    """Comparison of two ways of training, each repeated over seeds (or tasks).

    Attributes:
        difference: Mean of ``first - second`` with its interval.
        p: Two-sided p-value of the t-test; NaN with fewer than two repetitions.
        count: Number of pairs; size of the smaller group for unpaired groups.
        wins: Pairs in which the first scores higher; ties do not count.
        ties: Pairs with equal scores.
        win_rate: Share of wins among the pairs without ties, with an exact binomial interval.
    """

    difference: Interval
    p: float
    count: int
    wins: int
    ties: int
    win_rate: Interval


def seeds_paired(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> SeedsTest:
    """Paired t-test over seeds (or tasks), and the number of wins with its binomial interval.

    Args:
        first: Shape (pairs,): scores of the first way, one per seed.
        second: Same shape and order: scores of the second way with the same seeds.
        level: Coverage of both intervals.

    Returns:
        Interval and p are NaN for a single pair.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ValueError(f"pairs need two lists of equal length above 0, not {a.shape}, {b.shape}")
    gaps = a - b
    wins, ties = int((gaps > 0).sum()), int((gaps == 0).sum())
    error = float(gaps.std(ddof=1)) / math.sqrt(a.size) if a.size > 1 else math.nan
    difference, p = _student(float(gaps.mean()), error, a.size - 1, level)
    rate = binomial_interval(wins, a.size - ties, level)
    return SeedsTest(difference, p, a.size, wins, ties, rate)


def seeds_unpaired(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> SeedsTest:
    """Welch's t-test over two groups of different seeds; there are no pairs and no wins."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    gap, fewer = float(a.mean() - b.mean()), min(a.size, b.size)
    none = Interval(math.nan, math.nan, math.nan)
    if fewer < 2:
        return SeedsTest(Interval(gap, math.nan, math.nan), math.nan, fewer, 0, 0, none)
    variances = a.var(ddof=1) / a.size, b.var(ddof=1) / b.size
    total = float(sum(variances))
    shares = variances[0] ** 2 / (a.size - 1) + variances[1] ** 2 / (b.size - 1)
    freedom = total**2 / shares if shares > 0 else fewer - 1
    difference, p = _student(gap, math.sqrt(total), float(freedom), level)
    return SeedsTest(difference, p, fewer, 0, 0, none)


def binomial_interval(successes: float, trials: float, level: float = 0.95) -> Interval:
    """Share of successes with the exact interval of Clopper and Pearson (1934).

    Args:
        successes: Number of successes; an effective number need not be whole.
        trials: Number of trials, likewise.
        level: Coverage, 0 to 1.
    """
    from scipy.special import betaincinv

    if trials == 0:
        return Interval(math.nan, math.nan, math.nan)
    tail, failures = (1 - level) / 2, trials - successes
    low = float(betaincinv(successes, failures + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, failures, 1 - tail)) if failures else 1.0
    return Interval(successes / trials, low, high)


def _student(value: float, error: float, freedom: float, level: float) -> tuple[Interval, float]:
    if math.isnan(error):
        return Interval(value, math.nan, math.nan), math.nan
    if error == 0:
        return Interval(value, value, value), 1.0 if value == 0 else 0.0
    half = student_t(freedom, level) * error
    return Interval(value, value - half, value + half), student_p(freedom, value / error)
