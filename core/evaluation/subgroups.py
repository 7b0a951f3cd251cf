"""Subgroup analysis: AUROC by sex, age band and view, and the gap between the groups."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.evaluation.predictions import Predictions
from core.metrics.intervals import Floats, Interval
from core.metrics.patient_intervals import auroc_interval, gap_between_parts

BY = ("sex", "age", "view")
"""Attributes that divide the studies into groups."""
AGES = (40, 60, 80)
"""Ages in years at which a new band begins."""

MIN_STUDIES = 30
"""Smallest group that is scored; smaller ones are only listed."""

WORDS = {"F": "female", "M": "male"}


@dataclass(frozen=True)
class GroupScore:
    """Score of one subgroup.

    Attributes:
        name: Name such as ``female``, ``40 to 59`` or ``AP``.
        studies: Number of studies.
        patients: Number of patients.
        auroc: Mean AUROC over the findings that are defined in every group, with its interval over
            patients; NaN for groups of fewer than ``MIN_STUDIES`` studies.
    """

    name: str
    studies: int
    patients: int
    auroc: Interval


@dataclass(frozen=True)
class Subgroups:
    """All subgroups by one attribute.

    Attributes:
        by: One of ``BY``.
        groups: The groups, by name.
        findings: Findings with both classes in every scored group. Only these are averaged, so that
            all groups are scored on the same findings.
        gap: Highest minus lowest AUROC of the scored groups, with its interval over patients; NaN
            with fewer than two. With more than two groups the interval is widened for the number
            of pairs from which these two were chosen (Bonferroni).
        between: Names of the two groups, the higher first; empty without a gap.
        unknown: Studies whose group is not known.
    """

    by: str
    groups: tuple[GroupScore, ...]
    findings: tuple[str, ...]
    gap: Interval
    between: tuple[str, ...]
    unknown: int


def all_subgroups(predictions: Predictions) -> tuple[Subgroups, ...]:
    """Subgroup scores by each attribute of ``BY`` that divides the studies.

    Args:
        predictions: A model's predictions on one split.
    """
    each = (subgroups(predictions, by) for by in BY)
    return tuple(groups for groups in each if groups is not None)


def subgroups(predictions: Predictions, by: str) -> Subgroups | None:
    """Subgroup scores by sex, age band or view.

    Args:
        predictions: A model's predictions on one split.
        by: One of ``BY``.

    Returns:
        None if there are fewer than two groups, or the groups are not known.
    """
    names = _names(predictions, by)
    known = sorted({str(name) for name in names if name}, key=_order)
    if len(known) < 2:
        return None
    masks = [names == name for name in known]
    large = [i for i, mask in enumerate(masks) if int(mask.sum()) >= MIN_STUDIES]
    labels = predictions.labels.astype(np.float64)
    scores = predictions.scores.astype(np.float64)
    shared = _shared(labels, [masks[i] for i in large])
    intervals = {i: Interval(math.nan, math.nan, math.nan) for i in range(len(known))}
    gap = Interval(math.nan, math.nan, math.nan)
    between: tuple[str, ...] = ()
    if large and len(shared):
        labels, scores = labels[:, shared], scores[:, shared]
        for i in large:
            own = predictions.patients[masks[i]]
            intervals[i] = auroc_interval(labels[masks[i]], scores[masks[i]], own)
        if len(large) > 1:
            high = max(large, key=lambda i: intervals[i].value)
            low = min(large, key=lambda i: intervals[i].value)
            level = 1 - 0.05 / (len(large) * (len(large) - 1) // 2)
            parts = masks[high], masks[low]
            gap = gap_between_parts(labels, scores, parts, predictions.patients, level)
            between = (known[high], known[low])
    return Subgroups(
        by,
        tuple(
            GroupScore(
                name, int(mask.sum()), len(np.unique(predictions.patients[mask])), intervals[i]
            )
            for i, (name, mask) in enumerate(zip(known, masks, strict=True))
        ),
        tuple(predictions.findings[f] for f in shared),
        gap,
        between,
        int((names == "").sum()),
    )


def _names(predictions: Predictions, by: str) -> NDArray[np.str_]:
    """The group of each study; empty if it is not known."""
    unknown = np.full(len(predictions.ids), "", dtype="U16")
    if by == "age":
        if predictions.age is None:
            return unknown
        return np.array([_band(float(age)) for age in predictions.age], dtype="U16")
    values = predictions.sex if by == "sex" else predictions.view
    if values is None:
        return unknown
    return np.array([WORDS.get(str(value), str(value)) for value in values], dtype="U16")


def _band(years: float) -> str:
    if math.isnan(years):
        return ""
    if years < AGES[0]:
        return f"under {AGES[0]}"
    for start, end in itertools.pairwise(AGES):
        if years < end:
            return f"{start} to {end - 1}"
    return f"{AGES[-1]} and over"


def _order(name: str) -> tuple[bool, str]:
    return not name.startswith("under"), name


def _shared(labels: Floats, masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.intp]:
    """Columns with both classes in each of these groups of rows."""
    both = [((labels[mask] == 1).any(axis=0)) & ((labels[mask] == 0).any(axis=0)) for mask in masks]
    return np.flatnonzero(np.all(both, axis=0)) if both else np.array([], dtype=np.intp)
