"""Decision curves: net benefit of acting on a model (Vickers and Elkin 2006)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from core.metrics.intervals import Floats, known_labels

THRESHOLDS = (
    0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9,
)  # fmt: skip
"""Threshold probabilities of a decision curve."""


@dataclass(frozen=True)
class NetBenefit:
    """Net benefit at one threshold probability, in true positives per study.

    Treating nobody has the net benefit 0.

    Attributes:
        threshold: Probability from which one would treat; its odds are the harm of treating a
            patient without the finding, relative to the benefit of treating one with it.
        model: Treat whom the model gives at least this probability.
        treat_all: Treat everybody.
    """

    threshold: float
    model: float
    treat_all: float


def decision_curve(
    labels: ArrayLike,
    scores: ArrayLike,
    prevalence: float | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> tuple[NetBenefit, ...]:
    """Net benefit of a model: share of true positives − odds of the threshold × false positives.

    Args:
        labels: Shape (studies,): 1, 0 or NaN.
        scores: Probabilities of the same shape, 0 to 1.
        prevalence: Prevalence where the model is used, in (0, 1); by default that of the studies.
            With another one, both classes are weighted, and the odds of each probability are
            multiplied by the ratio of the odds of the prevalences.
        thresholds: Threshold probabilities in (0, 1).

    Returns:
        One value per threshold; none if either class is missing.
    """
    truth, values = known_labels(labels, scores)
    if truth.all() or not truth.any():
        return ()
    own = float(truth.mean())
    share = own if prevalence is None else prevalence
    adapted = values if prevalence is None else _shifted(values, own, share)
    curve = []
    for threshold in thresholds:
        treated, odds = adapted >= threshold, threshold / (1 - threshold)
        true_positives = share * float(treated[truth].mean())
        false_positives = (1 - share) * float(treated[~truth].mean())
        curve.append(
            NetBenefit(
                threshold, true_positives - odds * false_positives, share - odds * (1 - share)
            )
        )
    return tuple(curve)


def _shifted(probabilities: Floats, before: float, after: float) -> Floats:
    """Probabilities at another prevalence, by Bayes' theorem."""
    ratio = math.exp(_log_odds(after) - _log_odds(before))
    shifted: Floats = probabilities * ratio / (1 - probabilities + probabilities * ratio)
    return np.where(probabilities >= 1, 1.0, shifted)


def _log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))
