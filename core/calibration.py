"""Operating points chosen on one split for another, and how well probabilities are calibrated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from core.stats import known_labels

Rule = Literal["youden", "sensitivity", "specificity"]


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it gives; ``score >= threshold`` is called positive.

    Attributes:
        threshold: On the scores' own scale.
        sensitivity: Share of the positives called positive, 0 to 1.
        specificity: Share of the negatives called negative, 0 to 1.
    """

    threshold: float
    sensitivity: float
    specificity: float


def operating_point(
    labels: ArrayLike, scores: ArrayLike, rule: Rule = "youden", target: float = 0.9
) -> OperatingPoint:
    """Choose a threshold, to be used on other studies than those it was chosen on.

    Args:
        labels: Shape (studies,): 1, 0 or NaN.
        scores: Same shape.
        rule: ``youden`` maximises sensitivity + specificity; ``sensitivity`` takes the highest
            threshold that reaches ``target``, ``specificity`` the lowest that does.
        target: 0 to 1; not used by ``youden``.

    Returns:
        NaN throughout if either class is missing.
    """
    truth, values = known_labels(labels, scores)
    if truth.all() or not truth.any():
        return OperatingPoint(math.nan, math.nan, math.nan)
    order = np.argsort(-values, kind="stable")
    last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    called = np.cumsum(truth[order])[last], np.cumsum(~truth[order])[last]
    # Calling nobody positive is a threshold too: just above the highest score.
    thresholds = np.append(np.nextafter(values.max(), np.inf), values[order][last])
    sensitivity = np.append(0.0, called[0] / truth.sum())
    specificity = np.append(1.0, 1 - called[1] / (~truth).sum())
    if rule == "youden":
        best = int(np.argmax(sensitivity + specificity))
    elif rule == "sensitivity":
        best = int(np.argmax(sensitivity >= target))
    else:
        best = int(np.flatnonzero(specificity >= target)[-1])
    return OperatingPoint(
        float(thresholds[best]), float(sensitivity[best]), float(specificity[best])
    )


def at_threshold(labels: ArrayLike, scores: ArrayLike, threshold: float) -> OperatingPoint:
    """Sensitivity and specificity of a given threshold; NaN for a class that is missing."""
    truth, values = known_labels(labels, scores)
    called = values >= threshold
    if math.isnan(threshold):
        return OperatingPoint(math.nan, math.nan, math.nan)
    sensitivity = float(called[truth].mean()) if truth.any() else math.nan
    specificity = float((~called[~truth]).mean()) if not truth.all() else math.nan
    return OperatingPoint(threshold, sensitivity, specificity)


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared error of the probabilities, 0 (best) to 1; NaN without a known label."""
    truth, values = known_labels(labels, probabilities)
    return float(((values - truth) ** 2).mean()) if truth.size else math.nan


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error over bins of equal count (Nixon et al. 2019), 0 (best) to 1.

    Bins of equal count, because findings are rare: bins of equal width would put nearly all
    studies into the first.
    """
    truth, values = known_labels(labels, probabilities)
    if not truth.size:
        return math.nan
    order = np.argsort(values, kind="stable")
    parts = np.array_split(order, min(bins, truth.size))
    gaps = [len(part) * abs(values[part].mean() - truth[part].mean()) for part in parts]
    return float(sum(gaps) / truth.size)
