"""Calibration of probabilities: Brier score, reliability curve, temperature scaling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from core.metrics.intervals import Floats, Interval, known_labels, matrices
from core.metrics.seed_tests import binomial_interval

BINS = 10
EPSILON = 1e-7
"""Smallest distance from 0 and 1 that single precision can distinguish."""

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.02, 50.0
"""Bounds for the fitted temperature."""


@dataclass(frozen=True)
class ReliabilityBin:
    """A bin of the reliability curve: studies with similar predicted probability.

    Attributes:
        studies: Number of studies.
        predicted: Their mean predicted probability.
        observed: Share of positives among them, with its exact binomial interval.
    """

    studies: int
    predicted: float
    observed: Interval


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Brier score: mean squared error of the probabilities, 0 (best) to 1; NaN without labels."""
    truth, values = known_labels(labels, probabilities)
    return float(((values - truth) ** 2).mean()) if truth.size else math.nan


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error over bins of equal count (Nixon et al. 2019), 0 (best) to 1.

    The bins have equal counts, because findings are rare: with bins of equal width nearly all
    studies would be in the first one.
    """
    curve = reliability(labels, probabilities, bins)
    total = sum(each.studies for each in curve)
    if not total:
        return math.nan
    return sum(each.studies * abs(each.predicted - each.observed.value) for each in curve) / total


def reliability(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """Reliability curve: predicted against observed frequency, in bins of equal count.

    Args:
        labels: Shape (studies,): 1, 0 or NaN.
        probabilities: Same shape, 0 to 1.
        bins: Number of bins; not more than studies.
    """
    truth, values = known_labels(labels, probabilities)
    if not truth.size:
        return ()
    order = np.argsort(values, kind="stable")
    parts = np.array_split(order, min(bins, truth.size))
    return tuple(
        ReliabilityBin(
            len(part),
            float(values[part].mean()),
            binomial_interval(int(truth[part].sum()), len(part)),
        )
        for part in parts
    )


def fit_temperature(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Fit the temperature that maximises the likelihood of the labels (Guo et al. 2017).

    It should be applied to other studies than those it is fitted on. It changes no AUROC.

    Args:
        labels: Shape (studies, findings): 1, 0 or NaN.
        probabilities: Same shape, 0 to 1.

    Returns:
        Above 1 for an overconfident model; NaN without labels of both classes.
    """
    from scipy.optimize import minimize_scalar

    truth, values = matrices(labels, probabilities)
    known = ~np.isnan(truth)
    truth, inputs = truth[known], logits(values[known])
    if not truth.size or truth.min() == truth.max():
        return math.nan

    def loss(power: float) -> float:
        signed = np.where(truth == 1, -inputs, inputs) * math.exp(-power)
        return float(np.logaddexp(0.0, signed).mean())

    bounds = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    return math.exp(float(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def scaled(probabilities: ArrayLike, temperature: float) -> Floats:
    """Scale probabilities: divide their logits by a temperature.

    Args:
        probabilities: Any shape, 0 to 1.
        temperature: Result of ``fit_temperature``; NaN changes nothing.
    """
    from scipy.special import expit

    values = np.asarray(probabilities, np.float64)
    if math.isnan(temperature):
        return values
    result: Floats = expit(logits(values) / temperature)
    return result


def logits(probabilities: ArrayLike) -> Floats:
    """Log odds of probabilities of any shape, limited to what single precision can distinguish."""
    inside = np.clip(probabilities, EPSILON, 1 - EPSILON)
    values: Floats = np.log(inside) - np.log1p(-inside)
    return values
