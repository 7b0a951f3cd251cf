"""AUROC per finding, its mean over the findings, and average precision.

Labels are 1, 0, or NaN where not known; unknown labels are left out. A score that needs both
classes is NaN ("not defined") if only one is present, never 0.5.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.metrics.intervals import Floats, known_labels, matrices


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the share of pairs ranked correctly, with ties counting half.

    Args:
        labels: Shape (studies,): 1, 0 or NaN.
        scores: Same shape, on any increasing scale.

    Returns:
        0 to 1; NaN if either class is missing.

    Raises:
        ValueError: The shapes differ, a label is not 1, 0 or NaN, or a score is NaN.
    """
    truth, values = known_labels(labels, scores)
    return _auroc(truth, values)


def per_finding(labels: ArrayLike, scores: ArrayLike) -> Floats:
    """AUROC of each finding.

    Args:
        labels: Shape (studies, findings): 1, 0 or NaN.
        scores: Same shape.

    Returns:
        Shape (findings,); NaN for a finding with one class only.

    Raises:
        ValueError: As for ``auroc``.
    """
    truth, values = matrices(labels, scores)
    return np.array([auroc(truth[:, f], values[:, f]) for f in range(truth.shape[1])])


def macro(each: ArrayLike) -> float:
    """Mean over the findings whose score is defined; NaN if none is.

    Args:
        each: Shape (findings,), as ``per_finding`` returns it.
    """
    values = np.asarray(each, dtype=np.float64)
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the precision-recall curve as a step function; NaN without a positive."""
    truth, values = known_labels(labels, scores)
    if not truth.any():
        return math.nan
    order = np.argsort(-values, kind="stable")
    # Studies with equal scores are classified together: only the last of a tie is a threshold.
    last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    true_positives = np.cumsum(truth[order])[last]
    gained = np.diff(true_positives, prepend=0)
    return float((gained * true_positives / (last + 1)).sum() / truth.sum())


def _auroc(truth: NDArray[np.bool_], values: Floats) -> float:
    m, n = int(truth.sum()), int((~truth).sum())
    if m == 0 or n == 0:
        return math.nan
    # Positives are rare: sorting the negatives and looking up each positive is fastest.
    negatives = np.sort(values[~truth])
    below = np.searchsorted(negatives, values[truth], "left").sum()
    up_to = np.searchsorted(negatives, values[truth], "right").sum()
    return float((below + up_to) / (2 * m * n))
