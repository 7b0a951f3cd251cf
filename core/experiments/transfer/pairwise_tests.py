"""Whether LoRA is ahead of the other ways in the grid of ``core.experiments.transfer.grid``.

A mean beside a mean misleads where both share their seeds: with a seed come the labelled patients
and the order of the pictures. So each pair of runs is held against each other seed by seed, and who
looks at many differences at once is told which of them stand when that is accounted for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.experiments.paper.claims import points
from core.experiments.transfer.grid import Start, TransferResult, TransferRun, data_title
from core.metrics.intervals import Interval, holm
from core.metrics.seed_tests import SeedsTest, binomial_interval, seeds_paired
from core.models.tuning.registry import TUNING_METHODS

FIRST, OTHERS = "lora", ("full", "linear")
LEVEL = 0.05


@dataclass(frozen=True)
class PairwiseTest:
    """LoRA against another way on one data set, from one start, at one label fraction.

    Attributes:
        data: What the data set is called.
        start: What both start from.
        fraction: Label fraction in (0, 1].
        test: LoRA − other over the seeds that both have done, as AUROC.
        adjusted: Holm's p-value among the duels of its tally; NaN with one seed.
    """

    data: str
    start: str
    fraction: float
    test: SeedsTest
    adjusted: float


@dataclass(frozen=True)
class Summary:
    """All duels against one way.

    Attributes:
        other: Name of that way.
        tests: In the order of the grid.
        ahead: Number of duels in which LoRA's mean is higher.
        rate: Share of these among all that are no tie, with an exact binomial interval.
    """

    other: str
    tests: tuple[PairwiseTest, ...]
    ahead: int
    rate: Interval

    @property
    def standing(self) -> tuple[PairwiseTest, ...]:
        """Duels whose difference stands among so many tests."""
        return tuple(one for one in self.tests if one.adjusted < LEVEL)


def tallies(
    trips: Iterable[TransferRun], known: Mapping[TransferRun, TransferResult]
) -> list[Summary]:
    """Hold LoRA against each other way, as far as it was run.

    Args:
        trips: The grid.
        known: What its runs came to.
    """
    scores: dict[tuple[str, Start, float], dict[str, dict[int, float]]] = {}
    for trip in trips:
        spec = trip.spec
        if trip in known:
            place = scores.setdefault(
                (data_title(spec.data), trip.start, spec.data.label_fraction), {}
            )
            place.setdefault(spec.adapter.method, {})[spec.train.seed] = known[trip].auroc
    return [_tally(other, scores) for other in OTHERS]


def sentence(tally: Summary) -> str:
    """What a tally comes to, for a reader who sees the table beside it."""
    other = TUNING_METHODS[tally.other].title.lower()
    if not tally.tests:
        return f"LoRA against {other}: no pair of runs is done yet."
    told = f"LoRA against {other}: ahead in {tally.ahead} of {len(tally.tests)}"
    if not math.isnan(tally.rate.low):
        told += f" (95% interval {100 * tally.rate.low:.0f}% to {100 * tally.rate.high:.0f}%)"
    tests = sum(not math.isnan(one.adjusted) for one in tally.tests)
    if not tests:
        return f"{told}; with one seed no difference can be tested."
    if not tally.standing:
        return f"{told}; no difference stands among {tests} tests (Holm)."
    named = [
        f"{one.data} {100 * one.fraction:g}% from {one.start} {points(one.test.difference.value)}"
        for one in tally.standing
    ]
    return f"{told}; among {tests} tests (Holm) stand, in points: {'; '.join(named)}."


def as_json(tally: Summary) -> dict[str, object]:
    """A tally as plain values; differences as AUROC, None for what is not defined."""
    return {
        "other": tally.other,
        "ahead": tally.ahead,
        "duels": [
            {
                "data": one.data,
                "start": one.start,
                "label_fraction": one.fraction,
                "seeds": one.test.count,
                "difference": one.test.difference.value,
                "low": _defined(one.test.difference.low),
                "high": _defined(one.test.difference.high),
                "p": _defined(one.test.p),
                "p_holm": _defined(one.adjusted),
            }
            for one in tally.tests
        ],
    }


def _tally(
    other: str, scores: Mapping[tuple[str, Start, float], Mapping[str, Mapping[int, float]]]
) -> Summary:
    paired = {}
    for place, methods in scores.items():
        ours, theirs = methods.get(FIRST, {}), methods.get(other, {})
        seeds = sorted(ours.keys() & theirs.keys())
        if seeds:
            paired[place] = seeds_paired([ours[s] for s in seeds], [theirs[s] for s in seeds])
    adjusted = holm([test.p for test in paired.values()])
    tests = tuple(
        PairwiseTest(data, start.title, fraction, test, float(p))
        for ((data, start, fraction), test), p in zip(paired.items(), adjusted, strict=True)
    )
    ahead = sum(one.test.difference.value > 0 for one in tests)
    ties = sum(one.test.difference.value == 0 for one in tests)
    return Summary(other, tests, ahead, binomial_interval(ahead, len(tests) - ties))


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
