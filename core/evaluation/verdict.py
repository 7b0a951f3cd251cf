"""Verdict on two groups of runs: which one is better, and whether the runs support that.

A difference can be due to chance in two ways: by the seed (labelled subset, head, order) and by the
patients of the test split. One interval covers both; a group is called better if it excludes zero.
Where several pairs are compared at once, the level is corrected for their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.config.tuned import RATE, tuned_for
from core.evaluation.groups import REPETITION, Group, differing, fold_count, is_default
from core.evaluation.predictions import aligned, read_joined
from core.formatting import capitalized, percent, points, share
from core.metrics.intervals import Interval, holm
from core.metrics.patient_intervals import MIN_PATIENTS
from core.metrics.seeds_and_patients import MIN_SEEDS, DifferenceTest, difference_test
from core.models.tuning.registry import tuning_method

Evidence = Literal["above", "below", "unclear", "undecided"]

LEVEL = 0.05
"""Share of the pages or tables of equal methods on which a winner may be named."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Two groups of runs and the test of their difference, before a decision.

    Attributes:
        first: The first group.
        second: The second group.
        split: ``test`` or ``val``.
        test: Test of the difference over seeds and patients.
        patients: Number of patients of the split.
        rare: Findings with too few patients for a test; they are left out.
        paired: Whether the groups are compared seed by seed.
    """

    first: Group
    second: Group
    split: str
    test: DifferenceTest
    patients: int
    rare: tuple[str, ...]
    paired: bool


@dataclass(frozen=True, eq=False)
class Verdict:
    """Whether the first group is better than the second, with its evidence.

    Attributes:
        sentence: The answer, with its interval and the number of seeds.
        evidence: ``above`` or ``below`` if the interval excludes zero, ``unclear`` if it does not,
            ``undecided`` if there are too few seeds or patients.
        difference: Mean AUROC of the first minus the second, 0 to 1, with the interval that
            decided; its bounds are NaN if undecided.
        level: Coverage of this interval: 0.95 for a single comparison, more if it was corrected.
        p: p-value, corrected by Holm's method for the pairs that were compared at once.
        over_patients: The same difference with its 95% interval over patients alone.
        test: The test over seeds and patients.
        notes: Restrictions that the reader should know.
    """

    sentence: str
    evidence: Evidence
    difference: Interval
    level: float
    p: float
    over_patients: Interval
    test: DifferenceTest
    notes: tuple[str, ...]


def measure(first: Group, second: Group, split: str = "test") -> Measured:
    """Test the difference of two groups of runs.

    Args:
        first: Runs of one group.
        second: Runs of the other, on the same studies.
        split: ``test`` or ``val``.

    Raises:
        DataError: A run has no predictions, or the runs were not scored on the same studies.
    """
    shared = sorted(_seeds(first) & _seeds(second))
    sides = [
        [trial for trial in group.trials if not shared or trial.spec.train.seed in shared]
        for group in (first, second)
    ]
    predictions = aligned([read_joined(trial.folders, split) for side in sides for trial in side])
    scores, cut = [each.scores for each in predictions], len(sides[0])
    labels, patients = predictions[0].labels, predictions[0].patients
    test = difference_test(labels, scores[:cut], scores[cut:], patients, paired=bool(shared))
    rare = tuple(
        name
        for name, tested in zip(predictions[0].findings, test.patients.findings, strict=True)
        if not tested
    )
    return Measured(first, second, split, test, len(np.unique(patients)), rare, bool(shared))


def decide(measured: Sequence[Measured]) -> list[Verdict]:
    """Verdicts on pairs of groups that are shown together, corrected for their number.

    The p-values are corrected by Holm's method. The interval of each pair has the level of its
    step, so that it excludes zero exactly if the corrected p-value is below 0.05.

    Args:
        measured: The pairs.
    """
    p_values = [each.test.p() for each in measured]
    corrected = holm(p_values)
    levels = _levels(p_values)
    return [_decision(*each) for each in zip(measured, corrected.tolist(), levels, strict=True)]


def verdict(first: Group, second: Group, split: str = "test") -> Verdict:
    """Say whether the first group is better than the second; see ``measure`` and ``decide``.

    Raises:
        DataError: As for ``measure``.
    """
    return decide([measure(first, second, split)])[0]


def about_chance(verdicts: Sequence[Verdict], shown: str = "comparisons") -> str:
    """How many of several pairs chance alone would name; empty for fewer than two.

    Args:
        verdicts: Verdicts of one call of ``decide``.
        shown: What the pairs are called.
    """
    count = sum(not math.isnan(each.p) for each in verdicts)
    if count < 2:
        return ""
    return (
        f"Corrected for {count} {shown} by Holm's method: if no method differed, at most "
        f"{percent(LEVEL)} of such results would name a winner at all (without the correction, "
        f"{LEVEL * count:.1f} of the {count} on average)."
    )


def _levels(p_values: Sequence[float]) -> list[float]:
    """Coverage of the interval of each pair at its step of Holm's method."""
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    levels, error = [1 - LEVEL] * len(p_values), 0.0
    failed = False
    for rank, (p, i) in enumerate(order):
        if not failed:
            error = LEVEL / (len(order) - rank)
            failed = p >= error
        levels[i] = 1 - error
    return levels


def _decision(measured: Measured, p: float, level: float) -> Verdict:
    test = measured.test
    difference = test.interval(level)
    evidence: Evidence = "undecided"
    if not math.isnan(p):
        evidence = "unclear" if p >= LEVEL else "above" if test.value > 0 else "below"
    over_patients = test.patients.test().difference
    sentence = _sentence(measured, difference, level, over_patients, evidence)
    notes = tuple(_notes(measured))
    return Verdict(sentence, evidence, difference, level, p, over_patients, test, notes)


def _sentence(
    measured: Measured, gap: Interval, level: float, patients: Interval, evidence: Evidence
) -> str:
    first, second, test = measured.first.title, measured.second.title, measured.test
    if math.isnan(gap.value):
        return (
            f"Not decidable between {first} and {second}: no finding of the {measured.split} split "
            f"has {MIN_PATIENTS} patients with it and {MIN_PATIENTS} without it."
        )
    sign = -1 if gap.value < 0 else 1
    word = "below" if sign < 0 else "above"
    claim = f"{first} is {points(abs(gap.value), sign=False)} points {word} {second}"
    if f"{abs(100 * gap.value):.1f}" == "0.0":
        claim = f"{first} and {second} score equally"
    seeds = f"{test.seeds.count} seed{'s' * (test.seeds.count != 1)}"
    if evidence == "undecided":
        why = f"Not decidable with {seeds if test.seeds.count > 1 else 'one seed'}"
        because = "but another seed may reverse it"
        if test.seeds.count >= MIN_SEEDS:
            why = "Not decidable"
            because = f"but {seeds} with one and the same difference say nothing about other seeds"
        return (
            f"{why}: {claim} on these patients (95% interval over patients "
            f"{_range(patients, sign)}), {because}."
        )
    bounds = f"{share(level)} interval {_range(gap, sign)}, {seeds}"
    if evidence == "unclear":
        return f"No clear difference: {claim}, {bounds}."
    return f"{capitalized(claim)}, {bounds}."


def _notes(measured: Measured) -> Iterable[str]:
    first, second, test = measured.first, measured.second, measured.test
    chosen = [
        each
        for each in differing([first.spec, second.spec])
        if each.given and each.path not in REPETITION and each.path != "adapter.rank"
    ]
    if len(chosen) > 1:
        named = ", ".join(each.label for each in chosen)
        yield f"They differ in {named}: the difference cannot be attributed to one of them."
    if first.spec.adapter.method != second.spec.adapter.method:
        untuned = [each.title for each in (first, second) if _is_untuned(each)]
        if untuned:
            yield (
                f"The learning rate of {' and of '.join(untuned)} is the default and was not tuned "
                "for this data; “tune” compares each method at its own best setting."
            )
    seeds = test.seeds
    if measured.paired and seeds.count > 1:
        decided = seeds.count - seeds.ties
        yield (
            f"{capitalized(first.title)} scores higher with {seeds.wins} of {decided} seeds"
            f" (95% interval of this share {percent(seeds.win_rate.low)} to "
            f"{percent(seeds.win_rate.high)})."
            if decided
            else "Both score equally with every seed."
        )
    folds = fold_count(first.spec), fold_count(second.spec)
    if any(folds):
        counts = " and ".join(f"{count} folds" if count else "one split" for count in set(folds))
        yield f"Out-of-fold predictions of {counts}, joined per seed."
    if not measured.paired:
        yield "They have no seed in common; the seeds are compared as two unpaired groups."
    if not test.parts:
        yield "Neither depends on the seed; the interval covers other patients only."
    elif seeds.count in (2, 3, 4):
        yield "With so few seeds the interval is wide; five or more make it useful."
    if measured.rare and not math.isnan(test.value):
        yield (
            f"Left out of the comparison, because fewer than {MIN_PATIENTS} patients have or do "
            f"not have it: {', '.join(measured.rare)}."
        )
    if measured.patients < 50:
        yield f"The split has only {measured.patients} patients."


def _is_untuned(group: Group) -> bool:
    """Whether a group was trained with a default learning rate that was not tuned for its data."""
    spec = group.spec.resolved()
    closed_form = tuning_method(spec.adapter.method).closed_form
    tuned = group.tuned or closed_form or bool(tuned_for(spec))
    return not tuned and is_default(spec, RATE)


def _seeds(group: Group) -> set[int]:
    return {trial.spec.train.seed for trial in group.trials}


def _range(interval: Interval, sign: int) -> str:
    """The bounds in points, from the side of the group that scores higher."""
    if math.isnan(interval.low):
        return "not defined"
    low, high = sorted((sign * interval.low, sign * interval.high))
    return f"{points(low, sign=False)} to {points(high, sign=False)}"
