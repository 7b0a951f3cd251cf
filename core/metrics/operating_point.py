"""Operating points: thresholds and the counts at them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from core.metrics.intervals import OperatingPoint, Rule, known_labels


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
