"""Pairwise tests of LoRA against the other methods of the transfer grid.

Two methods with the same seed are trained on the same labelled patients in the same order, so that
their means must not be compared as if they were independent. Each pair of runs is compared seed by
seed, over seeds and patients where the predictions are known, and p-values are corrected for the
number of tests by Holm's method.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from core.config.defaults import CLOSED_FORM
from core.evaluation.predictions import aligned, read_predictions
from core.experiments.transfer.grid import TransferResult, TransferRun, data_title
from core.formatting import points, share
from core.metrics.intervals import Interval, holm
from core.metrics.seed_tests import seeds_paired
from core.metrics.seeds_and_patients import MIN_SEEDS, difference_test
from core.models.tuning.registry import TUNING_METHODS

LORA, OTHERS = "lora", ("full", "linear", "logistic", "attentive")
SIGNIFICANCE = 0.05

Setting = tuple[str, str, float]
"""Titles of the data set and of the initial weights, and label fraction."""

Known = Mapping[tuple[Setting, str, bool], "PairwiseTest"]
"""Stored tests by setting, other method, and whether both are tuned."""


@dataclass(frozen=True)
class PairwiseTest:
    """LoRA compared with another method on one data set, from one start, at one label fraction.

    Attributes:
        data: Title of the data set.
        start: Title of the initial weights.
        fraction: Label fraction in (0, 1].
        seeds: The seeds that both have.
        difference: AUROC of LoRA minus that of the other method, with its 95% interval.
        over_patients: Whether the interval covers other patients as well as other seeds.
        p: p-value; NaN with too few seeds.
        adjusted: p-value after Holm's correction within the summary.
    """

    data: str
    start: str
    fraction: float
    seeds: tuple[int, ...]
    difference: Interval
    over_patients: bool
    p: float
    adjusted: float


@dataclass(frozen=True)
class Summary:
    """All comparisons of LoRA with one other method.

    Attributes:
        other: Name of the other method.
        tuned: Whether both methods have tuned settings.
        tests: The comparisons, in the order of the grid.
        ahead: Number of comparisons in which LoRA's mean is higher.
    """

    other: str
    tuned: bool
    tests: tuple[PairwiseTest, ...]
    ahead: int

    @property
    def significant(self) -> tuple[PairwiseTest, ...]:
        """Comparisons with an adjusted p-value below ``SIGNIFICANCE``."""
        return tuple(test for test in self.tests if test.adjusted < SIGNIFICANCE)


def lora_summaries(
    cells: Iterable[TransferRun],
    results: Mapping[TransferRun, TransferResult],
    stored: Known | None = None,
) -> list[Summary]:
    """Compare LoRA with each other method, as far as both have results.

    A method that is fitted in closed form has no settings to tune: it is compared with LoRA before
    and after tuning.

    Args:
        cells: The grid.
        results: Results of its runs.
        stored: Tests over seeds and patients whose predictions are not at hand any more.
    """
    scores: dict[bool, dict[Setting, dict[str, dict[int, TransferResult]]]] = {False: {}}
    for cell in cells:
        spec = cell.spec
        method = spec.adapter.method
        if cell in results:
            key = (data_title(spec.data), cell.start.title, spec.data.label_fraction)
            for tuned in {cell.tuned, cell.tuned or method in CLOSED_FORM}:
                by_method = scores.setdefault(tuned, {}).setdefault(key, {})
                by_method.setdefault(method, {})[spec.train.seed] = results[cell]
    if not any(LORA in methods for methods in scores.get(True, {}).values()):
        scores.pop(True, None)
    return [
        _summary(other, tuned, settings, stored or {})
        for tuned, settings in scores.items()
        for other in OTHERS
    ]


def sentence(summary: Summary) -> str:
    """A summary as one sentence."""
    other = TUNING_METHODS[summary.other].title.lower()
    compared = f"LoRA{' (tuned)' * summary.tuned} compared with {other}"
    if summary.tuned and summary.other not in CLOSED_FORM:
        compared += " (tuned)"
    if not summary.tests:
        return f"{compared}: no pair of runs is completed yet."
    result = f"{compared}: ahead in {summary.ahead} of {len(summary.tests)} comparisons"
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
        "tuned": summary.tuned,
        "ahead": summary.ahead,
        "duels": [
            {
                "data": test.data,
                "start": test.start,
                "label_fraction": test.fraction,
                "seeds": len(test.seeds),
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
    other: str,
    tuned: bool,
    scores: Mapping[Setting, Mapping[str, Mapping[int, TransferResult]]],
    stored: Known,
) -> Summary:
    tests: list[PairwiseTest] = []
    for setting, methods in scores.items():
        lora, others = methods.get(LORA, {}), methods.get(other, {})
        seeds = tuple(sorted(lora.keys() & others.keys()))
        if seeds:
            test = _test(setting, {seed: (lora[seed], others[seed]) for seed in seeds})
            known = stored.get((setting, other, tuned))
            if known is not None and not test.over_patients and known.seeds == seeds:
                test = known
            tests.append(test)
    adjusted = holm([test.p for test in tests])
    corrected = tuple(
        replace(test, adjusted=float(p)) for test, p in zip(tests, adjusted, strict=True)
    )
    return Summary(other, tuned, corrected, sum(test.difference.value > 0 for test in tests))


def _test(
    setting: Setting, pairs: Mapping[int, tuple[TransferResult, TransferResult]]
) -> PairwiseTest:
    """Test of pairs of runs by seed, over patients as well if all their predictions are known."""
    lora, other = zip(*pairs.values(), strict=True)
    folders = [result.folder for result in (*lora, *other) if result.folder]
    if len(folders) == 2 * len(pairs):
        predictions = aligned([read_predictions(folder) for folder in folders])
        scores = [each.scores for each in predictions]
        test = difference_test(
            predictions[0].labels,
            scores[: len(pairs)],
            scores[len(pairs) :],
            predictions[0].patients,
            paired=True,
        )
        return PairwiseTest(*setting, tuple(pairs), test.interval(), True, test.p(), math.nan)
    seeds = seeds_paired([each.auroc for each in lora], [each.auroc for each in other])
    p = seeds.p if seeds.count >= MIN_SEEDS else math.nan
    return PairwiseTest(*setting, tuple(pairs), seeds.difference, False, p, math.nan)


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
