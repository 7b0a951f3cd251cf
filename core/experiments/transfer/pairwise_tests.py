"""Pairwise tests of LoRA against the other methods of the transfer grid.

Two methods with the same seed are trained on the same labelled patients in the same order, so that
their means must not be compared as if they were independent. Each pair of runs is compared seed by
seed, and p-values are corrected for the number of tests by Holm's method.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.experiments.transfer.grid import Start, TransferResult, TransferRun, data_title
from core.formatting import percent, points, share
from core.metrics.intervals import Interval, holm
from core.metrics.seed_tests import SeedsTest, binomial_interval, seeds_paired
from core.models.tuning.registry import TUNING_METHODS

LORA, OTHERS = "lora", ("full", "linear")
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class PairwiseTest:
    """LoRA compared with another method on one data set, from one start, at one label fraction.

    Attributes:
        data: Title of the data set.
        start: Title of the initial weights.
        fraction: Label fraction in (0, 1].
        test: AUROC of LoRA minus that of the other method, over the seeds that both have.
        adjusted: p-value after Holm's correction within the summary; NaN with one seed.
    """

    data: str
    start: str
    fraction: float
    test: SeedsTest
    adjusted: float


@dataclass(frozen=True)
class Summary:
    """All comparisons of LoRA with one other method.

    Attributes:
        other: Name of the other method.
        tests: The comparisons, in the order of the grid.
        ahead: Number of comparisons in which LoRA's mean is higher.
        rate: Share of these among all that are not ties, with an exact binomial interval.
    """

    other: str
    tests: tuple[PairwiseTest, ...]
    ahead: int
    rate: Interval

    @property
    def significant(self) -> tuple[PairwiseTest, ...]:
        """Comparisons with an adjusted p-value below ``SIGNIFICANCE``."""
        return tuple(test for test in self.tests if test.adjusted < SIGNIFICANCE)


def lora_summaries(
    cells: Iterable[TransferRun], results: Mapping[TransferRun, TransferResult]
) -> list[Summary]:
    """Compare LoRA with each other method, as far as both have results.

    Args:
        cells: The grid.
        results: Results of its runs.
    """
    scores: dict[tuple[str, Start, float], dict[str, dict[int, float]]] = {}
    for cell in cells:
        spec = cell.spec
        if cell in results:
            key = (data_title(spec.data), cell.start, spec.data.label_fraction)
            by_seed = scores.setdefault(key, {}).setdefault(spec.adapter.method, {})
            by_seed[spec.train.seed] = results[cell].auroc
    return [_summary(other, scores) for other in OTHERS]


def sentence(summary: Summary) -> str:
    """A summary as one sentence."""
    other = TUNING_METHODS[summary.other].title.lower()
    if not summary.tests:
        return f"LoRA compared with {other}: no pair of runs is completed yet."
    result = (
        f"LoRA compared with {other}: ahead in {summary.ahead} of {len(summary.tests)} comparisons"
    )
    if not math.isnan(summary.rate.low):
        result += f" (95% interval {percent(summary.rate.low)} to {percent(summary.rate.high)})"
    count = sum(not math.isnan(test.adjusted) for test in summary.tests)
    if not count:
        return f"{result}; a difference cannot be tested with one seed."
    if not summary.significant:
        return f"{result}; no difference is significant among {count} tests (Holm)."
    listed = "; ".join(
        f"{test.data} {share(test.fraction)} from {test.start} {points(test.test.difference.value)}"
        for test in summary.significant
    )
    return f"{result}; significant among {count} tests (Holm), in points: {listed}."


def as_json(summary: Summary) -> dict[str, object]:
    """A summary as a JSON value; differences are AUROCs, and undefined values None."""
    return {
        "other": summary.other,
        "ahead": summary.ahead,
        "duels": [
            {
                "data": test.data,
                "start": test.start,
                "label_fraction": test.fraction,
                "seeds": test.test.count,
                "difference": test.test.difference.value,
                "low": _defined(test.test.difference.low),
                "high": _defined(test.test.difference.high),
                "p": _defined(test.test.p),
                "p_holm": _defined(test.adjusted),
            }
            for test in summary.tests
        ],
    }


def _summary(
    other: str, scores: Mapping[tuple[str, Start, float], Mapping[str, Mapping[int, float]]]
) -> Summary:
    paired = {}
    for key, methods in scores.items():
        lora, others = methods.get(LORA, {}), methods.get(other, {})
        seeds = sorted(lora.keys() & others.keys())
        if seeds:
            paired[key] = seeds_paired([lora[s] for s in seeds], [others[s] for s in seeds])
    adjusted = holm([test.p for test in paired.values()])
    tests = tuple(
        PairwiseTest(data, start.title, fraction, test, float(p))
        for ((data, start, fraction), test), p in zip(paired.items(), adjusted, strict=True)
    )
    ahead = sum(test.test.difference.value > 0 for test in tests)
    ties = sum(test.test.difference.value == 0 for test in tests)
    return Summary(other, tests, ahead, binomial_interval(ahead, len(tests) - ties))


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
