"""How AUROC grows with the share of labels, and how many labels one way needs to equal another."""

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
    """One label fraction.

    Attributes:
        fraction: Share of the labels, in (0, 1].
        auroc: Mean over the seeds, with the band's bounds there; NaN where there are none.
        seeds: Number of seeds.
        over: What the band is over.
    """

    fraction: float
    auroc: Interval
    seeds: int
    over: Over


@dataclass(frozen=True)
class Curve:
    """AUROC of one method against the label fraction.

    Attributes:
        method: Name of the method.
        levels: In the order of the fractions.
    """

    method: str
    levels: tuple[Level, ...]

    def at(self, fraction: float) -> Level | None:
        """The level of one fraction; None if it was not measured."""
        return next((one for one in self.levels if one.fraction == fraction), None)


@dataclass(frozen=True)
class Needed:
    """Which share of the labels a method needs for an AUROC.

    Attributes:
        target: The AUROC with its interval.
        fraction: The share, 0 to 1, and its bounds: where the far ends of both bands meet. The
            smallest measured share means “at most that”, infinity “not even with all labels”, NaN
            that a band is missing.
        floor: The smallest share that was measured.
    """

    target: Interval
    fraction: Interval
    floor: float


def curve(
    method: str,
    scores: Mapping[float, Sequence[float]],
    patients: Mapping[float, Interval] | None = None,
) -> Curve:
    """Put one method's scores together, with a band over seeds, else over patients.

    Args:
        method: Name of the method.
        scores: AUROC of each seed, 0 to 1, by label fraction; empty lists are left out.
        patients: Intervals over the patients of the test split by label fraction, which are taken
            where there is but one seed.
    """
    levels = []
    for fraction in sorted(scores):
        each = [one for one in scores[fraction] if not math.isnan(one)]
        if not each:
            continue
        mean = seeds_paired(each, [0.0] * len(each)).difference
        over: Over = "seeds"
        if math.isnan(mean.low):
            known = (patients or {}).get(fraction)
            over = "nothing" if known is None or math.isnan(known.low) else "patients"
            if known is not None:
                mean = Interval(mean.value, known.low, known.high)
        if not math.isnan(mean.low):  # a t-interval of two seeds knows no bounds
            mean = Interval(mean.value, max(0.0, mean.low), min(1.0, mean.high))
        levels.append(Level(fraction, mean, len(each), over))
    return Curve(method, tuple(levels))


def labels_needed(of: Curve, target: Interval) -> Needed | None:
    """Read off a curve which share of the labels gives an AUROC.

    Between two measured shares the AUROC is taken to grow in a line over the logarithm of the
    share.

    Args:
        of: The curve; at least two levels.
        target: The AUROC to reach, with its interval.

    Returns:
        None with fewer than two levels.
    """
    if len(of.levels) < 2 or math.isnan(target.value):
        return None
    value = _crossing([(one.fraction, one.auroc.value) for one in of.levels], target.value)
    banded = not any(math.isnan(one.auroc.low) for one in of.levels)
    if not banded or math.isnan(target.low):
        return Needed(target, Interval(value, math.nan, math.nan), of.levels[0].fraction)
    least = _crossing([(one.fraction, one.auroc.high) for one in of.levels], target.low)
    most = _crossing([(one.fraction, one.auroc.low) for one in of.levels], target.high)
    return Needed(target, Interval(value, least, most), of.levels[0].fraction)


def sentence(needed: Needed, method: str, other: str, fraction: float) -> str:
    """The answer in words.

    Args:
        needed: The answer.
        method: Whose curve it was read off: ``full fine-tuning``.
        other: Whose AUROC is to be reached: ``LoRA``.
        fraction: With which share of the labels that was reached.
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
        return f"{head}; there is no band to say how sure that is."
    return f"{head}; the bands allow {_bound(low, needed.floor)} to {_bound(high, needed.floor)}."


def percent(fraction: float) -> str:
    """A share of the labels: ``1%``, ``4.3%``."""
    return f"{100 * fraction:.2g}%" if fraction < 1 else "100%"


def _bound(fraction: float, floor: float) -> str:
    if math.isinf(fraction):
        return "more than all"
    return f"{percent(fraction)} or fewer" if fraction <= floor else percent(fraction)


def _crossing(points: Sequence[tuple[float, float]], target: float) -> float:
    """The first share at which the line through the points reaches the target."""
    if points[0][1] >= target:
        return points[0][0]
    for (share, value), (next_share, next_value) in itertools.pairwise(points):
        if next_value >= target:
            done = (target - value) / (next_value - value)
            return math.exp(
                math.log(share) + done * (math.log(next_share) - math.log(share))
            )  # fmt: skip
    return math.inf
