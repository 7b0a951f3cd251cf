"""Intervals of positive and negative predictive values, over patients.

The studies of one patient are not independent. A share of studies therefore counts as a share of
fewer, independent ones: as many as give it the same variance (Korn and Graubard 1998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.metrics.intervals import Interval, OperatingPoint, patient_numbers, student_t
from core.metrics.operating_point import predictive_values
from core.metrics.patient_intervals import degrees_of_freedom
from core.metrics.seed_tests import binomial_interval


def predictive_value_intervals(
    labels: ArrayLike,
    scores: ArrayLike,
    point: OperatingPoint,
    prevalence: float | None = None,
    patients: ArrayLike | None = None,
    level: float = 0.95,
) -> tuple[Interval, Interval]:
    """PPV and NPV of an operating point; its threshold was chosen on other studies.

    At the prevalence of the studies, both are shares of studies, with the exact interval of Clopper
    and Pearson (1934). At a stated prevalence, which is taken as known, they follow from
    sensitivity and specificity, with the logit interval of Mercaldo, Lau and Zhou (2007). Half a
    study is then added to the counts of a class that is classified without exception. How often
    the intervals hold the truth is stated in ``docs/verdict.md``.

    Args:
        labels: Shape (studies,): 1, 0 or NaN.
        scores: Same shape.
        point: The threshold, with its sensitivity and specificity on these studies.
        prevalence: Share of studies with the finding where the model is used, in (0, 1); by default
            that of the studies.
        patients: Shape (studies,); by default each study is a patient of its own.
        level: Coverage, 0 to 1.

    Returns:
        PPV and NPV; NaN where they are not defined (see ``operating_point.predictive_values``).
    """
    truth, values = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    names, known = patient_numbers(len(truth), patients)[0], ~np.isnan(truth)
    ill, called, names = truth[known] == 1, values[known] >= point.threshold, names[known]
    if math.isnan(point.threshold):
        undefined = Interval(math.nan, math.nan, math.nan)
        return undefined, undefined
    if prevalence is None:
        positive = _share(ill[called], names[called], level)
        negative = _share(~ill[~called], names[~called], level)
        return positive.exact_interval(level), negative.exact_interval(level)
    ppv, npv = predictive_values(point, prevalence)
    sensitivity = _share(called[ill], names[ill], level)
    specificity = _share(~called[~ill], names[~ill], level)
    odds = prevalence / (1 - prevalence)
    return (
        _logit_interval(ppv, sensitivity, specificity.complement, odds, level),
        _logit_interval(npv, specificity, sensitivity.complement, 1 / odds, level),
    )


@dataclass(frozen=True)
class _Share:
    """A share of studies, and the number of independent studies that give it its variance."""

    value: float
    size: float

    @property
    def complement(self) -> _Share:
        return _Share(1 - self.value, self.size)

    @property
    def inside(self) -> _Share:
        """The share itself, or one with half a study more on each side if it is 0 or 1."""
        if 0 < self.value < 1:
            return self
        return _Share((self.value * self.size + 0.5) / (self.size + 1), self.size + 1)

    def exact_interval(self, level: float) -> Interval:
        if not self.size:
            return Interval(math.nan, math.nan, math.nan)
        return binomial_interval(self.value * self.size, self.size, level)


def _share(hits: NDArray[np.bool_], patients: NDArray[np.intp], level: float) -> _Share:
    if not len(hits):
        return _Share(math.nan, 0.0)
    value, groups = float(hits.mean()), np.unique(patients, return_inverse=True)[1]
    contributions = np.bincount(groups, hits - value) / len(hits)
    count = len(contributions)
    if count == len(hits) or float(np.abs(contributions).max()) < 1e-9:
        # Where all patients are alike, the correlation is not known: each of them counts once.
        return _Share(value, float(count))
    variance = float((contributions**2).sum()) * count / (count - 1)
    heavier = student_t(degrees_of_freedom(contributions), level) / student_t(math.inf, level)
    independent = value * (1 - value) / (variance * heavier**2)
    return _Share(value, max(1.0, min(float(len(hits)), independent)))


def _logit_interval(
    value: float, numerator: _Share, denominator: _Share, odds: float, level: float
) -> Interval:
    """Interval of the probability with the odds ``odds * numerator / denominator``."""
    from scipy.special import expit

    if math.isnan(value):
        return Interval(math.nan, math.nan, math.nan)
    shares = numerator.inside, denominator.inside
    centre = math.log(odds * shares[0].value / shares[1].value)
    variance = sum((1 - each.value) / (each.value * each.size) for each in shares)
    half = student_t(math.inf, level) * math.sqrt(variance)
    low, high = float(expit(centre - half)), float(expit(centre + half))
    return Interval(value, min(value, low), max(value, high))
