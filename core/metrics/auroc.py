"""AUROC with intervals and tests that hold, and operating points.

Labels are 1, 0, or NaN where not known; unknown labels are left out. A score that needs both
classes is NaN ("not defined") where only one is there, never 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Rule = Literal["youden", "sensitivity", "specificity"]


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval.

    Attributes:
        value: The estimate; NaN if not defined.
        low: Lower bound; NaN where there are too few studies for an interval.
        high: Upper bound.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """Two models on the same studies.

    Attributes:
        first: The first model's score.
        second: The second model's score.
        difference: ``first - second`` with its interval.
        statistic: The test's z, or NaN for a bootstrap.
        p: Two-sided p-value.
    """

    first: float
    second: float
    difference: Interval
    statistic: float
    p: float


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


# --- AUROC ---------------------------------------------------------------------------------------


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half.

    Args:
        labels: Shape (studies,): 1, 0 or NaN.
        scores: Same shape; any increasing scale.

    Returns:
        0 to 1; NaN if either class is missing.

    Raises:
        ValueError: The shapes differ, a label is none of 1, 0 and NaN, or a score is NaN.
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
        each: Shape (findings,), as ``per_finding`` gives it.
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
    # Studies with equal scores are called together: only the last of a tie is a threshold.
    last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    hits = np.cumsum(truth[order])[last]
    gained = np.diff(hits, prepend=0)
    return float((gained * hits / (last + 1)).sum() / truth.sum())


# --- DeLong --------------------------------------------------------------------------------------


def delong_variance(
    labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None = None
) -> float:
    """Variance of one AUROC; see ``delong_covariance``."""
    return float(delong_covariance(labels, [scores], patients)[1][0, 0])


def delong_covariance(
    labels: ArrayLike, models: Sequence[ArrayLike], patients: ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """AUROCs of several models on the same studies, with their covariance.

    DeLong et al. (1988) in the fast form of Sun and Xu (2014). With ``patients``, studies of one
    patient are taken together (Obuchowski 1997), which gives the former where each has one study.

    Args:
        labels: Shape (studies,): 1, 0 or NaN.
        models: Scores of each model, each of shape (studies,).
        patients: Shape (studies,): who each study belongs to.

    Returns:
        AUROCs of shape (models,) and their covariance of shape (models, models); NaN where there
        are fewer than two positives or negatives (or patients with them).

    Raises:
        ValueError: As for ``auroc``.
    """
    pairs = [known_labels(labels, scores) for scores in models]
    truth = pairs[0][0]
    of = codes(labels, patients)
    positive, negative = np.flatnonzero(truth), np.flatnonzero(~truth)
    m, n, k = len(positive), len(negative), len(models)
    if m == 0 or n == 0:
        return np.full(k, np.nan), np.full((k, k), np.nan)
    above, below = np.empty((k, m)), np.empty((k, n))
    for i, (_, values) in enumerate(pairs):
        both = _midranks(np.concatenate([values[positive], values[negative]]))
        above[i] = (both[:m] - _midranks(values[positive])) / n
        below[i] = 1 - (both[m:] - _midranks(values[negative])) / m
    areas = above.mean(axis=1)
    sums = [
        np.stack(
            [np.bincount(of[part], row, minlength=of.max() + 1) for row in rows - areas[:, None]]
        )
        for part, rows in ((positive, above), (negative, below))
    ]
    groups = [len(np.unique(of[part])) for part in (positive, negative)]
    if min(groups) < 2:
        return areas, np.full((k, k), np.nan)
    total = len(np.unique(of))
    s10, s01 = (g / (g - 1) * (rows @ rows.T) for g, rows in zip(groups, sums, strict=True))
    s11 = total / (total - 1) * (sums[0] @ sums[1].T)
    return areas, s10 / m**2 + s01 / n**2 + (s11 + s11.T) / (m * n)


def delong_interval(
    labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None = None, level: float = 0.95
) -> Interval:
    """AUROC with DeLong's interval, cut to 0 to 1.

    An AUROC of exactly 0 or 1 has an estimated variance of zero, which says nothing about the
    population: it comes without an interval (NaN bounds), as does one of fewer than two positives
    or negatives.

    Args:
        labels: Shape (studies,): 1, 0 or NaN.
        scores: Same shape.
        patients: Shape (studies,), where patients have several studies.
        level: Coverage, 0 to 1.
    """
    areas, covariance = delong_covariance(labels, [scores], patients)
    area, variance = float(areas[0]), float(covariance[0, 0])
    if not variance > 1e-18:
        return Interval(area, math.nan, math.nan)
    half = _quantile(level) * math.sqrt(variance)
    return Interval(area, max(0.0, area - half), min(1.0, area + half))


def delong_paired(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    patients: ArrayLike | None = None,
    level: float = 0.95,
) -> PairedTest:
    """Test whether two models on the same studies have equal AUROC.

    Args:
        labels: Shape (studies,): 1, 0 or NaN.
        first: Scores of the first model, same shape.
        second: Scores of the second model, same shape.
        patients: Shape (studies,), where patients have several studies.
        level: Coverage of the difference's interval.

    Returns:
        z and p are NaN where there are too few studies; p is 1 for models that rank alike.
    """
    areas, covariance = delong_covariance(labels, [first, second], patients)
    a, b = map(float, areas)
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if math.isnan(variance):
        return PairedTest(a, b, Interval(a - b, math.nan, math.nan), math.nan, math.nan)
    if variance <= 1e-18:
        if a == b:
            return PairedTest(a, b, Interval(0.0, 0.0, 0.0), 0.0, 1.0)
        return PairedTest(a, b, Interval(a - b, math.nan, math.nan), math.nan, math.nan)
    spread = math.sqrt(variance)
    z, half = (a - b) / spread, _quantile(level) * spread
    p = math.erfc(abs(z) / math.sqrt(2))
    return PairedTest(a, b, Interval(a - b, a - b - half, a - b + half), z, p)


# --- many tests ----------------------------------------------------------------------------------


def holm(p_values: ArrayLike) -> Floats:
    """Holm's (1979) adjusted p-values, in the given order; NaN stays NaN and is not counted."""
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full_like(p, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


# --- operating points ----------------------------------------------------------------------------


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


# --- inside --------------------------------------------------------------------------------------


def _auroc(truth: NDArray[np.bool_], values: Floats) -> float:
    m, n = int(truth.sum()), int((~truth).sum())
    if m == 0 or n == 0:
        return math.nan
    # Positives are few: sorting the negatives and looking each positive up costs least.
    negatives = np.sort(values[~truth])
    below = np.searchsorted(negatives, values[truth], "left").sum()
    up_to = np.searchsorted(negatives, values[truth], "right").sum()
    return float((below + up_to) / (2 * m * n))


def _midranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of their ranks."""
    ordered = np.sort(values)
    first = np.searchsorted(ordered, values, "left")
    last = np.searchsorted(ordered, values, "right")
    ranks: Floats = (first + last + 1) / 2
    return ranks


def matrices(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """Labels and scores as two tables of shape (studies, findings).

    Raises:
        ValueError: The shapes differ, or are not of two dimensions.
    """
    truth, values = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if truth.shape != values.shape or truth.ndim != 2:
        raise ValueError(
            f"labels {truth.shape} and scores {values.shape} must both be (studies, findings)"
        )
    return truth, values


def known_labels(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    """Labels and scores of the studies whose label is known."""
    truth, values = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if truth.shape != values.shape or truth.ndim != 1:
        raise ValueError(f"labels {truth.shape} and scores {values.shape} must both be (studies,)")
    known = ~np.isnan(truth)
    truth, values = truth[known], values[known]
    positive = truth == 1
    if not (positive | (truth == 0)).all():
        raise ValueError("labels must be 1, 0 or NaN")
    if np.isnan(values).any():
        raise ValueError("a score is NaN")
    return positive, values


def codes(labels: ArrayLike, patients: ArrayLike | None) -> NDArray[np.intp]:
    """Number the patients of the studies whose label is known from 0."""
    known = ~np.isnan(np.asarray(labels, np.float64))
    if patients is None:
        return np.arange(int(known.sum()))
    who: NDArray[Any] = np.asarray(patients)
    if who.shape != known.shape:
        raise ValueError(f"patients {who.shape} and labels {known.shape} must have one shape")
    numbers: NDArray[np.intp] = np.unique(who[known], return_inverse=True)[1]
    return numbers


def _quantile(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)
