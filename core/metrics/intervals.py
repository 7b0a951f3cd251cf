"""Types shared by all metrics, checks of their input, and Holm's correction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

Rule = Literal["prevalence", "youden", "sensitivity", "specificity"]
"""Rules for choosing an operating point."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        value: The estimate; NaN if not defined.
        low: Lower bound; NaN if there are too few studies for an interval.
        high: Upper bound.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """Paired test of two models on the same studies.

    Attributes:
        first: The first model's score.
        second: The second model's score.
        difference: ``first - second`` with its interval.
        statistic: t of the test; NaN if it is not defined.
        p: Two-sided p-value.
    """

    first: float
    second: float
    difference: Interval
    statistic: float
    p: float


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold with its sensitivity and specificity; ``score >= threshold`` is positive.

    Attributes:
        threshold: Threshold on the scale of the scores.
        sensitivity: Share of the positives that are classified as positive, 0 to 1.
        specificity: Share of the negatives that are classified as negative, 0 to 1.
    """

    threshold: float
    sensitivity: float
    specificity: float


def holm(p_values: ArrayLike) -> Floats:
    """P-values adjusted by Holm's method (1979), in the given order; NaN is ignored."""
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full_like(p, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def matrices(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """Labels and scores as matrices of shape (studies, findings).

    Raises:
        ValueError: The shapes differ or do not have two dimensions.
    """
    truth, values = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if truth.shape != values.shape or truth.ndim != 2:
        raise ValueError(
            f"labels {truth.shape} and scores {values.shape} must both be (studies, findings)"
        )
    return truth, values


def known_labels(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    """Labels and scores of the studies whose label is known.

    Raises:
        ValueError: The shapes differ, a label is not 1, 0 or NaN, or a score is NaN.
    """
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


def patient_numbers(studies: int, patients: ArrayLike | None) -> tuple[NDArray[np.intp], int]:
    """The patient of each study as a number from 0, and the number of patients.

    Args:
        studies: Number of studies.
        patients: Shape (studies,); by default each study is a patient of its own.

    Raises:
        ValueError: The number of patients' names differs.
    """
    if patients is None:
        return np.arange(studies), studies
    names: NDArray[Any] = np.asarray(patients)
    if names.shape != (studies,):
        raise ValueError(f"patients {names.shape} and labels ({studies},) must have one shape")
    unique, numbers = np.unique(names, return_inverse=True)
    return numbers, len(unique)


def student_t(freedom: float, level: float) -> float:
    """Half width, in standard errors, of the central ``level`` of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + level) / 2))


def student_p(freedom: float, statistic: float) -> float:
    """Two-sided p-value of a t statistic."""
    from scipy.special import stdtr

    return 2 * float(stdtr(freedom, -abs(statistic)))
