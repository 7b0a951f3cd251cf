"""Whether probabilities mean what they say: Brier score, reliability, temperature scaling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from core.metrics.intervals import Floats, Interval, known_labels, matrices
from core.metrics.seed_tests import binomial_interval

BINS = 10
LEAST = 1e-7
"""Probabilities nearer to 0 or 1 than this are not told apart: single precision cannot."""

COLDEST, HOTTEST = 0.02, 50.0
"""Temperatures within which the best one is sought."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Studies of about the same predicted probability.

    Attributes:
        studies: How many.
        predicted: Their mean probability.
        observed: Share of positives among them, with its exact binomial interval.
    """

    studies: int
    predicted: float
    observed: Interval


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared error of the probabilities, 0 (best) to 1; NaN without a known label."""
    truth, values = known_labels(labels, probabilities)
    return float(((values - truth) ** 2).mean()) if truth.size else math.nan


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error over bins of equal count (Nixon et al. 2019), 0 (best) to 1.

    Bins of equal count, because findings are rare: bins of equal width would put nearly all
    studies into the first.
    """
    found = reliability(labels, probabilities, bins)
    total = sum(one.studies for one in found)
    if not total:
        return math.nan
    return sum(one.studies * abs(one.predicted - one.observed.value) for one in found) / total


def reliability(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """The reliability curve: what was predicted against what was so, in bins of equal count.

    Args:
        labels: Shape (studies,): 1, 0 or NaN.
        probabilities: Same shape, 0 to 1.
        bins: Number of bins, fewer with fewer studies.
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
    """The one temperature that makes probabilities most likely (Guo et al. 2017).

    It is fitted on other studies than those it is used on, and leaves every AUROC as it is.

    Args:
        labels: Shape (studies, findings): 1, 0 or NaN.
        probabilities: Same shape, 0 to 1.

    Returns:
        Above 1 for a model that is too sure; NaN without labels of both classes.
    """
    from scipy.optimize import minimize_scalar

    truth, values = matrices(labels, probabilities)
    known = ~np.isnan(truth)
    truth, logits = truth[known], _logits(values[known])
    if not truth.size or truth.min() == truth.max():
        return math.nan

    def loss(power: float) -> float:
        signed = np.where(truth == 1, -logits, logits) * math.exp(-power)
        return float(np.logaddexp(0.0, signed).mean())

    bounds = math.log(COLDEST), math.log(HOTTEST)
    return math.exp(float(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def scaled(probabilities: ArrayLike, temperature: float) -> Floats:
    """Probabilities whose logits are divided by a temperature.

    Args:
        probabilities: Any shape, 0 to 1.
        temperature: As ``fit_temperature`` found it; NaN leaves them as they are.
    """
    from scipy.special import expit

    values = np.asarray(probabilities, np.float64)
    if math.isnan(temperature):
        return values
    found: Floats = expit(_logits(values) / temperature)
    return found


def _logits(probabilities: Floats) -> Floats:
    inside = np.clip(probabilities, LEAST, 1 - LEAST)
    found: Floats = np.log(inside) - np.log1p(-inside)
    return found
