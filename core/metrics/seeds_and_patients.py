"""Test of a difference between two ways of training, over seeds and over patients at once.

The difference of two groups of runs is uncertain for two reasons: other seeds give other models,
and other patients give other AUROCs. Its squared standard error is the sum of both variances. The
quantile of the interval is the mean of the t quantiles of both, weighted by their variances
(Cochran 1964): it errs on the safe side with few seeds, and far out in the tails, where many
comparisons are corrected.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from core.metrics.intervals import Floats, Interval, student_t
from core.metrics.patient_intervals import PatientDifference, auroc_difference
from core.metrics.seed_tests import SeedsTest, seeds_paired, seeds_unpaired

SMALLEST_P = 1e-12
"""Smaller p-values are given as this one."""

MIN_SEEDS = 3
"""Fewest seeds per side for a decision."""


@dataclass(frozen=True, eq=False)
class DifferenceTest:
    """Difference of two groups of runs in the mean AUROC, tested over seeds and patients.

    Attributes:
        seeds: The test over seeds alone.
        patients: The difference with its variance over patients.
        parts: Variance of the mean over seeds, and its degrees of freedom: one for pairs, one for
            each side without pairs, none if every seed of a side gives the same scores.
        gaps: Difference of each pair of seeds, of shape (pairs,); empty without pairs.
    """

    seeds: SeedsTest
    patients: PatientDifference
    parts: tuple[tuple[float, float], ...]
    gaps: Floats

    @property
    def value(self) -> float:
        """Mean AUROC of the first group minus that of the second, over the tested findings."""
        return self.patients.value

    @property
    def decidable(self) -> bool:
        """Whether there are enough seeds, and whether they differ."""
        if math.isnan(self.value):
            return False
        return not self.parts or (
            self.seeds.count >= MIN_SEEDS and sum(variance for variance, _ in self.parts) > 0
        )

    def p(self, null: float = 0.0) -> float:
        """Two-sided p-value; NaN if nothing can be decided.

        Args:
            null: The difference under the null hypothesis.
        """
        from scipy.optimize import brentq

        if not self.decidable:
            return math.nan
        distance = abs(self.value - null)
        if self.error == 0:
            return float(distance == 0)
        if distance >= self.half_width(1 - SMALLEST_P):
            return SMALLEST_P
        # The p-value is that of the interval which just reaches the null hypothesis.
        return float(brentq(lambda p: self.half_width(1 - p) - distance, SMALLEST_P, 1.0))

    def interval(self, level: float = 0.95) -> Interval:
        """The interval that excludes a value where ``p`` is below ``1 - level``, within −1 to 1.

        Args:
            level: Coverage, 0 to 1.
        """
        if not self.decidable:
            return Interval(self.value, math.nan, math.nan)
        half = self.half_width(level)
        return Interval(self.value, max(-1.0, self.value - half), min(1.0, self.value + half))

    @property
    def variances(self) -> tuple[tuple[float, float], ...]:
        """All variances of the difference with their degrees of freedom."""
        return (*self.parts, (self.patients.variance, self.patients.freedom))

    @property
    def error(self) -> float:
        """Standard error of the difference over seeds and patients."""
        return math.sqrt(sum(variance for variance, _ in self.variances))

    def half_width(self, level: float) -> float:
        """Half the width of the interval before it is limited to possible differences."""
        if self.error == 0:
            return 0.0
        weighted = sum(variance * student_t(freedom, level) for variance, freedom in self.variances)
        return weighted / self.error


def difference_test(
    labels: ArrayLike,
    first: Sequence[ArrayLike],
    second: Sequence[ArrayLike],
    patients: ArrayLike | None = None,
    *,
    paired: bool,
) -> DifferenceTest:
    """Compare two groups of runs on the same studies.

    Args:
        labels: Shape (studies, findings): 1, 0 or NaN.
        first: Scores of each run of the first group, each of the labels' shape.
        second: Scores of each run of the second group.
        patients: Shape (studies,); by default each study is a patient of its own.
        paired: Whether the runs of both groups have the same seeds, in the same order.

    Returns:
        NaN as value if no finding has enough patients (see ``MIN_PATIENTS``).
    """
    over_patients = auroc_difference(labels, first, second, patients)
    a, b = over_patients.first, over_patients.second
    seeds = (seeds_paired if paired else seeds_unpaired)(a, b)
    gaps = a - b if paired else np.zeros(0)
    parts = tuple(_variance_of_mean(side) for side in ((gaps,) if paired else (a, b)))
    if _fixed(first) and _fixed(second):
        parts = ()
    return DifferenceTest(seeds, over_patients, parts, gaps)


def mean_difference(
    tests: Sequence[DifferenceTest], patients: Sequence[Hashable]
) -> DifferenceTest:
    """The mean of several differences, tested over seeds and patients.

    Tasks on the same patients err alike: their contributions are added patient by patient.

    Args:
        tests: The differences; at least one, each with a value.
        patients: For each of them a key that is equal for tests on the same patients.

    Returns:
        A test whose seeds are the common ones: the first seeds of each test, if all are paired.
    """
    count, seeds = len(tests), min(test.seeds.count for test in tests)
    contributions = np.concatenate(list(_by_patient(tests, patients).values())) / count
    value = np.array([np.mean([test.value for test in tests])])
    findings = np.ones(count, dtype=bool)
    over_patients = PatientDifference(value, np.zeros(1), contributions, findings)
    if all(len(test.gaps) for test in tests):
        gaps = np.mean([test.gaps[:seeds] for test in tests], axis=0)
        parts: tuple[tuple[float, float], ...] = (_variance_of_mean(gaps),)
    else:
        gaps = np.zeros(0)
        own = [part for test in tests for part in test.parts]
        parts = tuple((variance / count**2, freedom) for variance, freedom in own)
    if not any(test.parts for test in tests):
        parts = ()
    compared = seeds_paired(gaps, np.zeros_like(gaps)) if len(gaps) else tests[0].seeds
    return DifferenceTest(replace(compared, count=seeds), over_patients, parts, gaps)


def share_above_zero(
    tests: Sequence[DifferenceTest], patients: Sequence[Hashable], draws: int = 4000
) -> Interval:
    """Share of several differences that are above zero, with its 95% interval.

    The interval is a parametric bootstrap: the differences are drawn around their estimates with
    their covariance over seeds and patients, so that tasks on the same patients vary together.

    Args:
        tests: The differences; those of zero are not counted.
        patients: As for ``mean_difference``.
        draws: Number of draws.
    """
    kept = [(test, key) for test, key in zip(tests, patients, strict=True) if test.value != 0]
    if not kept:
        return Interval(math.nan, math.nan, math.nan)
    tests, patients = [test for test, _ in kept], [key for _, key in kept]
    values = np.array([test.value for test in tests])
    share = float((values > 0).mean())
    mean = mean_difference(tests, patients)
    if not mean.decidable:
        return Interval(share, math.nan, math.nan)
    covariance = np.zeros((len(tests), len(tests)))
    for key in dict.fromkeys(_keys(tests, patients)):
        same = [i for i, other in enumerate(_keys(tests, patients)) if other == key]
        rows = np.stack([tests[i].patients.contributions for i in same])
        covariance[np.ix_(same, same)] += rows @ rows.T
    seeds = min(len(test.gaps) for test in tests)
    if seeds > 1:
        covariance += np.cov(np.stack([test.gaps[:seeds] for test in tests])) / seeds
    else:
        covariance += np.diag([sum(variance for variance, _ in test.parts) for test in tests])
    freedom = _satterthwaite(mean.variances)
    generator = np.random.default_rng(0)
    normal = generator.multivariate_normal(np.zeros(len(tests)), covariance, draws)
    scale = np.sqrt(freedom / generator.chisquare(freedom, draws))
    shares = (values + normal * scale[:, None] > 0).mean(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return Interval(share, float(low), float(high))


def _keys(
    tests: Sequence[DifferenceTest], patients: Sequence[Hashable]
) -> list[tuple[Hashable, int]]:
    """Keys of the patients; tests on other numbers of patients are not on the same ones."""
    sizes = (len(test.patients.contributions) for test in tests)
    return list(zip(patients, sizes, strict=True))


def _by_patient(
    tests: Sequence[DifferenceTest], patients: Sequence[Hashable]
) -> dict[tuple[Hashable, int], Floats]:
    """Sums of the contributions of tests on the same patients."""
    sums: dict[tuple[Hashable, int], Floats] = {}
    for test, key in zip(tests, _keys(tests, patients), strict=True):
        sums[key] = sums.get(key, 0.0) + test.patients.contributions
    return sums


def _variance_of_mean(values: Floats) -> tuple[float, float]:
    """Variance of the mean of several seeds, and its degrees of freedom."""
    if len(values) < 2:
        return math.nan, 0.0
    return float(values.var(ddof=1)) / len(values), len(values) - 1.0


def _fixed(scores: Sequence[ArrayLike]) -> bool:
    """Whether several runs have the same scores: the method does not depend on the seed."""
    return len(scores) > 1 and all(np.array_equal(scores[0], each) for each in scores[1:])


def _satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of independent variances (Satterthwaite 1946)."""
    total = sum(variance for variance, _ in parts)
    shares = sum(variance**2 / freedom for variance, freedom in parts if variance > 0)
    return total**2 / shares if shares > 0 else 1.0
