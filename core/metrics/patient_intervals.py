"""Intervals and tests of the mean AUROC over patients.

Each patient's contribution to an AUROC (see ``core.metrics.delong``) is summed over the findings.
The sum of the squares of these contributions is the variance over patients, which therefore covers
several studies per patient and errors that are correlated between findings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.metrics.delong import Placements, placements
from core.metrics.intervals import (
    Floats,
    Interval,
    PairedTest,
    matrices,
    patient_numbers,
    student_p,
    student_t,
)

MIN_PATIENTS = 10
"""Fewest patients with a finding, and without it, for a test of two models.

With fewer, tests of two equal models are significant at the 5% level in up to 15% of the cases (see
``tests/benchmarks/verdict.py``).
"""


@dataclass(frozen=True, eq=False)
class PatientDifference:
    """Difference of two groups of models in the mean AUROC, with its variance over patients.

    Attributes:
        first: AUROC of each model of the first group, of shape (models,): means over ``findings``.
        second: The same for the second group.
        contributions: What each patient contributes to the difference, of shape (patients,), in
            the order of the sorted names of the patients.
        findings: Shape (findings,): whether a finding is tested, because it has ``MIN_PATIENTS``.
    """

    first: Floats
    second: Floats
    contributions: Floats
    findings: NDArray[np.bool_]

    @property
    def value(self) -> float:
        """Mean of the first group minus mean of the second; NaN if no finding is tested."""
        return float(self.first.mean() - self.second.mean())

    @property
    def variance(self) -> float:
        """Variance of the difference over patients."""
        return float((self.contributions**2).sum())

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance."""
        return degrees_of_freedom(self.contributions)

    def test(self, level: float = 0.95) -> PairedTest:
        """t-test of the difference over patients, with its interval at this level.

        Interval and p are NaN if no finding is tested, or if the variance is zero although the
        models differ; p is 1 for models with the same ranking.
        """
        a, b, value = float(self.first.mean()), float(self.second.mean()), self.value
        spread = math.sqrt(self.variance)
        if math.isnan(value) or spread < 1e-9:
            same = value == 0
            bound, p = (0.0, 1.0) if same else (math.nan, math.nan)
            return PairedTest(a, b, Interval(value, bound, bound), math.nan, p)
        half = student_t(self.freedom, level) * spread
        low, high = max(-1.0, value - half), min(1.0, value + half)
        p = student_p(self.freedom, value / spread)
        return PairedTest(a, b, Interval(value, low, high), value / spread, p)


def auroc_interval(
    labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None = None, level: float = 0.95
) -> Interval:
    """Mean AUROC over the findings that are defined, with a score interval over patients.

    The bounds are the AUROCs whose distance from the estimate is the t quantile times their own
    standard error: that of Newcombe (2006, method 5), increased by the ratio of the variance over
    patients to it if this is above 1. Unlike an interval of a fixed width around the estimate, it
    holds its level with few positives and near an AUROC of 1.

    Args:
        labels: Shape (studies,) or (studies, findings): 1, 0 or NaN.
        scores: Same shape.
        patients: Shape (studies,); by default each study is a patient of its own.
        level: Coverage, 0 to 1.

    Returns:
        NaN if no finding has both classes.
    """
    return _part(labels, scores, patients).interval(level)


def auroc_difference(
    labels: ArrayLike,
    first: Sequence[ArrayLike],
    second: Sequence[ArrayLike],
    patients: ArrayLike | None = None,
) -> PatientDifference:
    """Compare two groups of models on the same studies, on the findings with ``MIN_PATIENTS``.

    Args:
        labels: Shape (studies,) or (studies, findings): 1, 0 or NaN.
        first: Scores of each model of the first group, each of the labels' shape.
        second: Scores of each model of the second group.
        patients: Shape (studies,); by default each study is a patient of its own.

    Raises:
        ValueError: The shapes differ.
    """
    models = [matrices(_columns(labels), _columns(scores)) for scores in (*first, *second)]
    truth, cut = models[0][0], len(first)
    found = _placements(truth, [scores for _, scores in models], patients)
    tested = np.array([min(each.groups) >= MIN_PATIENTS for each in found], dtype=bool)
    kept = [each for each, use in zip(found, tested, strict=True) if use]
    if not kept:
        count = patient_numbers(len(truth), patients)[1]
        nothing = np.full(len(models), np.nan)
        return PatientDifference(nothing[:cut], nothing[cut:], np.zeros(count), tested)
    areas = np.mean([each.areas for each in kept], axis=0)
    rows = np.mean([_contributions(each) for each in kept], axis=0)
    contributions = rows[:cut].mean(axis=0) - rows[cut:].mean(axis=0)
    return PatientDifference(areas[:cut], areas[cut:], contributions, tested)


def gap_between_parts(
    labels: ArrayLike,
    scores: ArrayLike,
    parts: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    patients: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Difference of one model's mean AUROC between two parts of the studies.

    A patient may have studies in both parts.

    Args:
        labels: Shape (studies, findings): 1, 0 or NaN; each finding has both classes in each part.
        scores: Same shape.
        parts: Masks of shape (studies,).
        patients: Shape (studies,); by default each study is a patient of its own.
        level: Coverage, 0 to 1.
    """
    truth = np.asarray(labels, np.float64)
    a, b = (_part(np.where(part[:, None], truth, np.nan), scores, patients) for part in parts)
    gap = a.value - b.value
    if math.isnan(gap):
        return Interval(gap, math.nan, math.nan)
    contributions = a.contributions - b.contributions
    variance = max(
        float((contributions**2).sum()), a.model_variance(a.value) + b.model_variance(b.value)
    )
    half = student_t(degrees_of_freedom(contributions), level) * math.sqrt(variance)
    return Interval(gap, max(-1.0, gap - half), min(1.0, gap + half))


def degrees_of_freedom(contributions: Floats) -> float:
    """Degrees of freedom of a sum of squares, from the kurtosis of its terms.

    At most the number of patients less one; few if a few patients contribute most of the sum.
    """
    count, variance = len(contributions), float((contributions**2).sum())
    if variance < 1e-18:
        return max(1.0, count - 1)
    kurtosis = count * float((contributions**4).sum()) / variance**2
    return max(1.0, min(count - 1, 2 * count / max(kurtosis - 1, 1e-9)))


@dataclass(frozen=True, eq=False)
class _Part:
    """Mean AUROC of one model, with the contributions of the patients and the class sizes."""

    value: float
    contributions: Floats
    counts: Sequence[tuple[int, int]]

    def model_variance(self, area: float) -> float:
        """Variance of Newcombe's method 5 at this AUROC, for independent findings."""
        total = 0.0
        for m, n in self.counts:
            pairs = (m + n) / 2 - 1
            spread = 1 + pairs * ((1 - area) / (2 - area) + area / (1 + area))
            total += area * (1 - area) * spread / (m * n)
        return total / len(self.counts) ** 2

    def interval(self, level: float) -> Interval:
        from scipy.optimize import brentq

        value = self.value
        if math.isnan(value):
            return Interval(math.nan, math.nan, math.nan)
        model, variance = self.model_variance(value), float((self.contributions**2).sum())
        ratio = max(1.0, variance / model) if model > 0 else 1.0
        quantile = student_t(degrees_of_freedom(self.contributions), level)

        def outside(area: float) -> float:
            return (value - area) ** 2 - quantile**2 * ratio * self.model_variance(area)

        low = float(brentq(outside, 0, value - 1e-9)) if value > 1e-8 else 0.0
        high = float(brentq(outside, value + 1e-9, 1)) if value < 1 - 1e-8 else 1.0
        return Interval(value, low, high)


def _part(labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None) -> _Part:
    truth, values = matrices(_columns(labels), _columns(scores))
    found = [each for each in _placements(truth, [values], patients) if not np.isnan(each.areas[0])]
    if not found:
        return _Part(math.nan, np.zeros(0), ())
    contributions = np.mean([_contributions(each)[0] for each in found], axis=0)
    value = float(np.mean([each.areas[0] for each in found]))
    return _Part(value, contributions, [each.counts for each in found])


def _columns(values: ArrayLike) -> Floats:
    array = np.asarray(values, np.float64)
    return array[:, None] if array.ndim == 1 else array


def _placements(
    truth: Floats, models: Sequence[Floats], patients: ArrayLike | None
) -> list[Placements]:
    return [
        placements(truth[:, f], [scores[:, f] for scores in models], patients)
        for f in range(truth.shape[1])
    ]


def _contributions(found: Placements) -> Floats:
    """Contributions of shape (models, patients), each class corrected for its few patients."""
    a, b = (math.sqrt(g / (g - 1)) if g > 1 else 1.0 for g in found.groups)
    both: Floats = a * found.positive + b * found.negative
    return both
