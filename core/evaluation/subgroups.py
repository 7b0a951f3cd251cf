"""AUROC by sex, age band and view, and the gap between the groups."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.evaluation.predictions import Predictions
from core.metrics.auroc import macro, per_finding
from core.metrics.bootstrap import DRAWS, bootstrap_parts
from core.metrics.intervals import Floats, Interval

BY = ("sex", "age", "view")
AGES = (40, 60, 80)
"""Years at which a new band begins."""

FEWEST = 30
"""Studies below which a group is named but not scored."""

WORDS = {"F": "female", "M": "male"}


@dataclass(frozen=True)
class GroupScore:
    """One group of studies.

    Attributes:
        name: Such as ``female``, ``40 to 59`` or ``AP``.
        studies: How many.
        patients: Whose they are.
        auroc: Mean over the findings that are defined in every group, with its interval over
            patients; NaN for groups of fewer than ``FEWEST`` studies.
    """

    name: str
    studies: int
    patients: int
    auroc: Interval


@dataclass(frozen=True)
class Subgroups:
    """All groups of one kind.

    Attributes:
        by: One of ``BY``.
        groups: The groups, by name.
        findings: Findings that have both classes in every scored group; only these are averaged,
            so that no group is favoured by what it lacks.
        gap: Highest minus lowest AUROC of the scored groups, with its interval over patients; NaN
            with fewer than two. With more than two groups the interval is widened for the number
            of pairs that these two were chosen from (Bonferroni).
        between: Names of the two groups, the higher first; empty without a gap.
        unknown: Studies of which it is not known.
    """

    by: str
    groups: tuple[GroupScore, ...]
    findings: tuple[str, ...]
    gap: Interval
    between: tuple[str, ...]
    unknown: int


def all_subgroups(found: Predictions, draws: int = DRAWS, seed: int = 0) -> tuple[Subgroups, ...]:
    """Scores by each of ``BY`` that splits the studies at all.

    Args:
        found: What a model said about the studies of one split.
        draws: Resamples of the patients.
        seed: Seed of the resamples.
    """
    parts = (subgroups(found, by, draws, seed) for by in BY)
    return tuple(one for one in parts if one is not None)


def subgroups(found: Predictions, by: str, draws: int = DRAWS, seed: int = 0) -> Subgroups | None:
    """Scores by sex, age band or view.

    Args:
        found: What a model said about the studies of one split.
        by: One of ``BY``.
        draws: Resamples of the patients.
        seed: Seed of the resamples.

    Returns:
        None if the studies are of fewer than two groups, or nothing is known of them.
    """
    names = _names(found, by)
    known = list(dict.fromkeys(sorted({str(one) for one in names if one}, key=_order)))
    if len(known) < 2:
        return None
    masks = [names == one for one in known]
    large = [i for i, mask in enumerate(masks) if int(mask.sum()) >= FEWEST]
    labels, scores = found.labels.astype(np.float64), found.scores.astype(np.float64)
    shared = _shared(labels, [masks[i] for i in large])
    intervals = {i: Interval(math.nan, math.nan, math.nan) for i in range(len(known))}
    gap = Interval(math.nan, math.nan, math.nan)
    between: tuple[str, ...] = ()
    if large and len(shared):
        labels, scores = labels[:, shared], scores[:, shared]
        chosen = [masks[i] for i in large]
        drawn = bootstrap_parts(labels, scores, chosen, found.patients, draws, seed)
        values = [macro(per_finding(labels[mask], scores[mask])) for mask in chosen]
        for i, value, row in zip(large, values, drawn, strict=True):
            intervals[i] = Interval(value, *_bounds(row))
        if len(large) > 1:
            high, low = int(np.argmax(values)), int(np.argmin(values))
            pairs = len(large) * (len(large) - 1) // 2
            spread = _bounds(drawn[high] - drawn[low], 0.05 / pairs)
            gap = Interval(values[high] - values[low], *spread)
            between = (known[large[high]], known[large[low]])
    return Subgroups(
        by,
        tuple(
            GroupScore(name, int(mask.sum()), len(np.unique(found.patients[mask])), intervals[i])
            for i, (name, mask) in enumerate(zip(known, masks, strict=True))
        ),
        tuple(found.findings[f] for f in shared),
        gap,
        between,
        int((names == "").sum()),
    )


def _names(found: Predictions, by: str) -> NDArray[np.str_]:
    """Each study's group; empty where it is not known."""
    nothing = np.full(len(found.ids), "", dtype="U16")
    if by == "age":
        if found.age is None:
            return nothing
        return np.array([_band(float(one)) for one in found.age], dtype="U16")
    values = found.sex if by == "sex" else found.view
    if values is None:
        return nothing
    return np.array([WORDS.get(str(one), str(one)) for one in values], dtype="U16")


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
    """Columns that have both classes in each of these groups of rows."""
    both = [((labels[mask] == 1).any(axis=0)) & ((labels[mask] == 0).any(axis=0)) for mask in masks]
    return np.flatnonzero(np.all(both, axis=0)) if both else np.array([], dtype=np.intp)


def _bounds(values: Floats, outside: float = 0.05) -> tuple[float, float]:
    defined = values[~np.isnan(values)]
    if not defined.size:
        return math.nan, math.nan
    low, high = np.quantile(defined, [outside / 2, 1 - outside / 2])
    return float(low), float(high)
