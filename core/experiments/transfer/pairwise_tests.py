"""Pairwise tests of LoRA against the other methods of the transfer grid.

Two methods with the same seed are trained on the same labelled patients in the same order, so that
their means must not be compared as if they were independent. Each pair of runs is compared seed by
seed, over seeds and patients where the predictions are known, and p-values are corrected for the
number of tests by Holm's method.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.evaluation.predictions import aligned, read_predictions
from core.experiments.transfer.grid import Start, TransferResult, TransferRun, data_title
from core.formatting import points, share
from core.metrics.intervals import Interval, holm
from core.metrics.seed_tests import seeds_paired
from core.metrics.seeds_and_patients import MIN_SEEDS, difference_test
from core.models.tuning.registry import TUNING_METHODS

LORA, OTHERS = "lora", ("full", "linear")
SIGNIFICANCE = 0.05

_Setting = tuple[str, Start, float]
"""Title of the data set, initial weights and label fraction."""


@dataclass(frozen=True)
class PairwiseTest:
    """LoRA compared with another method on one data set, from one start, at one label fraction.

    Attributes:
        data: Title of the data set.
        start: Title of the initial weights.
        fraction: Label fraction in (0, 1].
        seeds: Number of seeds that both have.
        difference: AUROC of LoRA minus that of the other method, with its 95% interval.
        over_patients: Whether the interval covers other patients as well as other seeds.
        p: p-value; NaN with too few seeds.
        adjusted: p-value after Holm's correction within the summary.
    """

    data: str
    start: str
    fraction: float
    seeds: int
    difference: Interval
    over_patients: bool
    p: float
    adjusted: float


@dataclass(frozen=True)
class Summary:
    """All comparisons of LoRA with one other method.

    Attributes:
        other: Name of the other method.
        tests: The comparisons, in the order of the grid.
        ahead: Number of comparisons in which LoRA's mean is higher.
    """

    other: str
    tests: tuple[PairwiseTest, ...]
    ahead: int

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
    scores: dict[_Setting, dict[str, dict[int, TransferResult]]] = {}
    for cell in cells:
        spec = cell.spec
        if cell in results:
            key = (data_title(spec.data), cell.start, spec.data.label_fraction)
            by_seed = scores.setdefault(key, {}).setdefault(spec.adapter.method, {})
            by_seed[spec.train.seed] = results[cell]
    return [_summary(other, scores) for other in OTHERS]


def sentence(summary: Summary) -> str:
    """A summary as one sentence."""
    other = TUNING_METHODS[summary.other].title.lower()
    if not summary.tests:
        return f"LoRA compared with {other}: no pair of runs is completed yet."
    result = (
        f"LoRA compared with {other}: ahead in {summary.ahead} of {len(summary.tests)} comparisons"
    )
    count = sum(not math.isnan(test.adjusted) for test in summary.tests)
    if not count:
        return f"{result}; a difference cannot be tested with fewer than {MIN_SEEDS} seeds."
    over = "seeds and patients" if all(test.over_patients for test in summary.tests) else "seeds"
    tested = f"among {count} tests over {over} (Holm)"
    if not summary.significant:
        return f"{result}; no difference is significant {tested}."
    listed = "; ".join(
        f"{test.data} {share(test.fraction)} from {test.start} {points(test.difference.value)}"
        for test in summary.significant
    )
    return f"{result}; significant {tested}, in points: {listed}."


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
                "seeds": test.seeds,
                "over_patients": test.over_patients,
                "difference": test.difference.value,
                "low": _defined(test.difference.low),
                "high": _defined(test.difference.high),
                "p": _defined(test.p),
                "p_holm": _defined(test.adjusted),
            }
            for test in summary.tests
        ],
    }


def _summary(
    other: str, scores: Mapping[_Setting, Mapping[str, Mapping[int, TransferResult]]]
) -> Summary:
    compared: dict[_Setting, tuple[int, Interval, bool, float]] = {}
    for key, methods in scores.items():
        lora, others = methods.get(LORA, {}), methods.get(other, {})
        seeds = sorted(lora.keys() & others.keys())
        if seeds:
            compared[key] = _compared([lora[seed] for seed in seeds], [others[s] for s in seeds])
    adjusted = holm([p for *_, p in compared.values()])
    tests = tuple(
        PairwiseTest(data, start.title, fraction, *values, float(p))
        for ((data, start, fraction), values), p in zip(compared.items(), adjusted, strict=True)
    )
    ahead = sum(test.difference.value > 0 for test in tests)
    return Summary(other, tests, ahead)


def _compared(
    lora: Sequence[TransferResult], other: Sequence[TransferResult]
) -> tuple[int, Interval, bool, float]:
    """Number of seeds, difference, whether it covers other patients, and p-value."""
    folders = [result.folder for result in (*lora, *other)]
    if None not in folders:
        predictions = aligned([read_predictions(folder) for folder in folders if folder])
        scores, count = [each.scores for each in predictions], len(lora)
        test = difference_test(
            predictions[0].labels,
            scores[:count],
            scores[count:],
            predictions[0].patients,
            paired=True,
        )
        return count, test.interval(), True, test.p()
    seeds = seeds_paired([each.auroc for each in lora], [each.auroc for each in other])
    decidable = seeds.count >= MIN_SEEDS
    return seeds.count, seeds.difference, False, seeds.p if decidable else math.nan


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
