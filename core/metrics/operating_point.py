"""Operating points: thresholds with their sensitivity, specificity and predictive values."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from core.metrics.intervals import OperatingPoint, Rule, known_labels


def operating_point(
    labels: ArrayLike, scores: ArrayLike, rule: Rule = "prevalence", target: float = 0.9
) -> OperatingPoint:
    """Choose a threshold; it should be applied to other studies than those it is chosen on.

    Args:
        labels: Shape (studies,): 1, 0 or NaN.
        scores: Same shape.
        rule: ``prevalence`` classifies as many studies as positive as there are positives, so that
            a rare finding is rarely called even if the scores have no information; ``youden``
            maximises sensitivity + specificity; ``sensitivity`` chooses the highest threshold that
            reaches ``target``, ``specificity`` the lowest one.
        target: 0 to 1; used by the rules ``sensitivity`` and ``specificity``.

    Returns:
        All values are NaN if either class is missing.
    """
    truth, values = known_labels(labels, scores)
    if truth.all() or not truth.any():
        return OperatingPoint(math.nan, math.nan, math.nan)
    order = np.argsort(-values, kind="stable")
    last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    true_positives, false_positives = np.cumsum(truth[order])[last], np.cumsum(~truth[order])[last]
    # A threshold just above the highest score classifies every study as negative.
    thresholds = np.append(np.nextafter(values.max(), np.inf), values[order][last])
    sensitivity = np.append(0.0, true_positives / truth.sum())
    specificity = np.append(1.0, 1 - false_positives / (~truth).sum())
    if rule == "prevalence":
        called = np.append(0, last + 1)
        best = int(np.argmin(np.abs(called - truth.sum())))
    elif rule == "youden":
        best = int(np.argmax(sensitivity + specificity))
    elif rule == "sensitivity":
        best = int(np.argmax(sensitivity >= target))
    else:
        best = int(np.flatnonzero(specificity >= target)[-1])
    return OperatingPoint(
        float(thresholds[best]), float(sensitivity[best]), float(specificity[best])
    )


def at_threshold(labels: ArrayLike, scores: ArrayLike, threshold: float) -> OperatingPoint:
    """Sensitivity and specificity at a threshold; NaN for a class that is missing."""
    truth, values = known_labels(labels, scores)
    positive = values >= threshold
    if math.isnan(threshold):
        return OperatingPoint(math.nan, math.nan, math.nan)
    sensitivity = float(positive[truth].mean()) if truth.any() else math.nan
    specificity = float((~positive[~truth]).mean()) if not truth.all() else math.nan
    return OperatingPoint(threshold, sensitivity, specificity)


def predictive_values(point: OperatingPoint, prevalence: float) -> tuple[float, float]:
    """Positive and negative predictive value of an operating point, by Bayes' theorem.

    Args:
        point: Its sensitivity and specificity are assumed not to depend on the prevalence.
        prevalence: Share of studies with the finding where the model is used, in (0, 1).

    Returns:
        PPV and NPV, 0 to 1. NaN if not defined: PPV where no study would be classified as positive,
        NPV where none would be classified as negative.
    """
    ill, well = prevalence, 1 - prevalence
    true_positive, false_negative = ill * point.sensitivity, ill * (1 - point.sensitivity)
    true_negative, false_positive = well * point.specificity, well * (1 - point.specificity)
    return (
        _ratio(true_positive, true_positive + false_positive),
        _ratio(true_negative, true_negative + false_negative),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
