"""Label efficiency: AUROC against the label fraction, and the labels needed for an AUROC."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from core.metrics.intervals import Interval
from core.metrics.seed_tests import seeds_paired

Over = Literal["seeds", "patients", "nothing"]


@dataclass(frozen=True)
class Level:
    """A point of a label-efficiency curve.

    Attributes:
        fraction: Label fraction, in (0, 1].
        auroc: Mean over the seeds, with the bounds of the band; NaN without a band.
        seeds: Number of seeds.
        over: Source of variation that the band covers.
    """

    fraction: float
    auroc: Interval
    seeds: int
    over: Over


@dataclass(frozen=True)
class Curve:
    """Label-efficiency curve of a method: AUROC against the label fraction.

    Attributes:
        method: Name of the method.
        levels: Points in the order of the fractions.
    """

    method: str
    levels: tuple[Level, ...]

    def at(self, fraction: float) -> Level | None:
        """The point at a label fraction; None if it was not measured."""
        return next((level for level in self.levels if level.fraction == fraction), None)


@dataclass(frozen=True)
class Needed:
    """The label fraction that a method needs to reach an AUROC.

    Attributes:
        target: The AUROC with its interval.
        fraction: The label fraction, 0 to 1. Its bounds are where the outer ends of both bands
            meet. The smallest measured fraction means “at most that”, infinity “not even with all
            labels”, NaN that a band is missing.
        floor: The smallest measured label fraction.
    """

    target: Interval
    fraction: Interval
    floor: float


def curve(
    method: str,
    scores: Mapping[float, Sequence[float]],
    patients: Mapping[float, Interval] | None = None,
) -> Curve:
    """Label-efficiency curve from a method's scores, with a band over seeds, else over patients.

    Args:
        method: Name of the method.
        scores: AUROC of each seed, 0 to 1, by label fraction; empty lists are ignored.
        patients: Intervals over the patients of the test split by label fraction, used where there
            is only one seed.
    """
    levels = []
    for fraction in sorted(scores):
        each = [score for score in scores[fraction] if not math.isnan(score)]
        if not each:
            continue
        mean = seeds_paired(each, [0.0] * len(each)).difference
        over: Over = "seeds"
        if math.isnan(mean.low):
            known = (patients or {}).get(fraction)
            over = "nothing" if known is None or math.isnan(known.low) else "patients"
            if known is not None:
                mean = Interval(mean.value, known.low, known.high)
        if not math.isnan(mean.low):  # a t-interval of few seeds may exceed 0 to 1
            mean = Interval(mean.value, max(0.0, mean.low), min(1.0, mean.high))
        levels.append(Level(fraction, mean, len(each), over))
    return Curve(method, tuple(levels))


def labels_needed(of: Curve, target: Interval) -> Needed | None:
    """Interpolate the label fraction at which a curve reaches an AUROC.

    The interpolation is linear in the logarithm of the label fraction.

    Args:
        of: The curve, with at least two points.
        target: The AUROC to reach, with its interval.

    Returns:
        None with fewer than two points.
    """
    levels = of.levels
    if len(levels) < 2 or math.isnan(target.value):
        return None
    value = _crossing([(level.fraction, level.auroc.value) for level in levels], target.value)
    banded = not any(math.isnan(level.auroc.low) for level in levels)
    if not banded or math.isnan(target.low):
        return Needed(target, Interval(value, math.nan, math.nan), levels[0].fraction)
    least = _crossing([(level.fraction, level.auroc.high) for level in levels], target.low)
    most = _crossing([(level.fraction, level.auroc.low) for level in levels], target.high)
    return Needed(target, Interval(value, least, most), levels[0].fraction)


def sentence(needed: Needed, method: str, other: str, fraction: float) -> str:
    """The needed label fraction as a sentence.

    Args:
        needed: The result of ``labels_needed``.
        method: Method of the curve: ``full fine-tuning``.
        other: Method whose AUROC is the target: ``LoRA``.
        fraction: Label fraction with which the other method reached it.
    """
    name = f"{method[:1].upper()}{method[1:]}"
    goal = f"{other} with {percent(fraction)} (AUROC {needed.target.value:.3f})"
    share, low, high = needed.fraction.value, needed.fraction.low, needed.fraction.high
    if math.isinf(share):
        head = f"{name} does not equal {goal} even with all labels"
    elif share <= needed.floor:
        head = f"{name} equals {goal} with {percent(share)} of the labels or fewer"
    else:
        head = f"{name} needs {percent(share)} of the labels to equal {goal}"
    if math.isnan(low):
        return f"{head}; without a band the uncertainty is not known."
    return f"{head}; the bands allow {_bound(low, needed.floor)} to {_bound(high, needed.floor)}."


def percent(fraction: float) -> str:
    """A label fraction: ``1%``, ``4.3%``."""
    return f"{100 * fraction:.2g}%" if fraction < 1 else "100%"


def _bound(fraction: float, floor: float) -> str:
    if math.isinf(fraction):
        return "more than all"
    return f"{percent(fraction)} or fewer" if fraction <= floor else percent(fraction)


def _crossing(points: Sequence[tuple[float, float]], target: float) -> float:
    """The first label fraction at which the line through the points reaches the target."""
    if points[0][1] >= target:
        return points[0][0]
    for (share, value), (next_share, next_value) in itertools.pairwise(points):
        if next_value >= target:
            done = (target - value) / (next_value - value)
            low, high = math.log(share), math.log(next_share)
            return math.exp(low + done * (high - low))
    return math.inf
