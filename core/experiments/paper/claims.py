"""Whether the claims of the study's abstract hold for a grid of tasks, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.evaluation.verdict import Evidence
from core.experiments.paper.results import FEWEST, Outcome
from core.experiments.paper.tasks import CLAIMS
from core.metrics.intervals import Interval
from core.metrics.seed_tests import SeedsTest, binomial_interval, seeds_paired

Status = Literal["holds", "does not hold", "not decidable"]

FEW_SEEDS = 2
"""Fewest seeds a task must have before it counts for or against a claim."""
HALF = 0.5
STUDY_WINS, STUDY_TASKS, STUDY_GAIN, STUDY_SHARE = 13, 18, 0.029, 0.01


@dataclass(frozen=True)
class Ruling:
    """One claim.

    Attributes:
        claim: The claim, in our words.
        status: Whether it holds here.
        reason: Why, as a sentence with figures.
    """

    claim: str
    status: Status
    reason: str


@dataclass(frozen=True)
class Judgement:
    """A grid of tasks as a whole.

    Attributes:
        outcomes: Its tasks.
        compared: Tasks with a verdict.
        seeds: Fewest seeds that a compared task has; 0 if none is compared.
        wins: Tasks in which LoRA's mean is above.
        ties: Tasks with equal means.
        win_rate: Share of wins among the tasks that are not ties, with an exact binomial interval.
        over_tasks: Mean difference, tested over tasks (each by its mean over seeds).
        pairs: Wins and number of (task, seed) pairs.
        evidence: How many tasks have which evidence.
        largest: The task in which LoRA gains most; None if none is compared.
        rulings: The claims.
    """

    outcomes: tuple[Outcome, ...]
    compared: int
    seeds: int
    wins: int
    ties: int
    win_rate: Interval
    over_tasks: SeedsTest | None
    pairs: tuple[int, int]
    evidence: dict[Evidence, int]
    largest: Outcome | None
    rulings: tuple[Ruling, ...]


def judge(outcomes: Sequence[Outcome]) -> Judgement:
    """Count wins, test over tasks, and rule on each claim.

    Args:
        outcomes: All tasks of the grid, compared or not.
    """
    verdicts = [(one, one.verdict) for one in outcomes if one.verdict and not _undefined(one)]
    gaps = [verdict.difference.value for _, verdict in verdicts]
    wins, ties = sum(gap > 0 for gap in gaps), sum(gap == 0 for gap in gaps)
    evidence: dict[Evidence, int] = {"above": 0, "below": 0, "unclear": 0, "undecided": 0}
    for _, verdict in verdicts:
        evidence[verdict.evidence] += 1
    seeds = min((one.seeds for one, _ in verdicts), default=0)
    rate = binomial_interval(wins, len(gaps) - ties)
    largest = max((one for one, _ in verdicts), key=_gap, default=None)
    return Judgement(
        tuple(outcomes),
        len(gaps),
        seeds,
        wins,
        ties,
        rate,
        seeds_paired(gaps, [0.0] * len(gaps)) if gaps else None,
        (
            sum(verdict.seeds.wins for _, verdict in verdicts),
            sum(verdict.seeds.count for _, verdict in verdicts),
        ),
        evidence,
        largest,
        (
            _ruling("wins", *_wins(len(outcomes), len(gaps), wins, ties, rate, seeds)),
            _ruling("gain", *_gain([one for one, _ in verdicts], len(outcomes), seeds)),
            _ruling("share", *_share(outcomes)),
            _ruling("nih", *_nih(outcomes)),
        ),
    )


def _ruling(name: str, status: Status, reason: str) -> Ruling:
    return Ruling(CLAIMS[name], status, reason)


def _undefined(one: Outcome) -> bool:
    return one.verdict is None or math.isnan(one.verdict.difference.value)


def _gap(one: Outcome) -> float:
    return one.verdict.difference.value if one.verdict else -math.inf


def _wins(
    tasks: int, compared: int, wins: int, ties: int, rate: Interval, seeds: int
) -> tuple[Status, str]:
    if not compared:
        return "not decidable", "No task has been run by both methods yet."
    decided = compared - ties
    if not decided:
        return "not decidable", f"Both score alike in all {compared} tasks compared."
    told = (
        f"LoRA is ahead in {wins} of {decided} tasks (share of wins 95% interval "
        f"{_percent(rate.low)} to {_percent(rate.high)})"
    )
    own = binomial_interval(STUDY_WINS, STUDY_TASKS)
    study = (
        f"The study’s own {STUDY_WINS} of {STUDY_TASKS} has {_percent(own.low)} to "
        f"{_percent(own.high)}."
    )
    if compared < tasks:
        return "not decidable", f"{told}; {tasks - compared} tasks are still to be run."
    if seeds < FEW_SEEDS:
        return "not decidable", f"{told}, with one seed, which the next may turn. {study}"
    if rate.low > HALF:
        return "holds", f"{told}: in most. {study}"
    if rate.high < HALF:
        return "does not hold", f"{told}: in fewer than half. {study}"
    return "not decidable", f"{told}, which allows for more than half and for fewer. {study}"


def _gain(verdicts: Sequence[Outcome], tasks: int, seeds: int) -> tuple[Status, str]:
    if not verdicts:
        return "not decidable", "No task has been run by both methods yet."
    best = max(verdicts, key=_gap)
    found = best.interval
    assert found is not None
    told = f"The largest gain is {points(found.value)} points ({best.task.name}"
    over = "seeds" if best.seeds >= FEW_SEEDS else "patients"
    if not math.isnan(found.low):
        told += f", 95% interval over {over} {points(found.low)} to {points(found.high)}"
    told += ")"
    if len(verdicts) < tasks:
        return "not decidable", f"{told}; {tasks - len(verdicts)} tasks are still to be run."
    if seeds < FEW_SEEDS:
        return "not decidable", f"{told}, with one seed, which the next may turn."
    beyond = [one for one in verdicts if _clearly_more(one)]
    if beyond:
        named = ", ".join(one.task.name for one in beyond)
        return "does not hold", f"{told}. Clearly more than {100 * STUDY_GAIN:.1f} in {named}."
    if all(one.interval is not None and one.interval.high <= STUDY_GAIN for one in verdicts):
        return "holds", f"{told}, and no task’s interval reaches {100 * STUDY_GAIN:.1f}."
    return "not decidable", f"{told}; some task’s interval reaches beyond {100 * STUDY_GAIN:.1f}."


def _clearly_more(one: Outcome) -> bool:
    verdict = one.verdict
    return (
        verdict is not None and min(verdict.difference.low, verdict.over_patients.low) > STUDY_GAIN
    )


def _share(outcomes: Sequence[Outcome]) -> tuple[Status, str]:
    few = [
        (one.share, one)
        for one in outcomes
        if one.share is not None and one.task.fraction == FEWEST
    ]
    if not few:
        return "not decidable", "No task with 1% of the labels has been run by LoRA yet."
    low, high = min(share for share, _ in few), max(share for share, _ in few)
    span = f"{100 * low:.2f}%" if math.isclose(low, high) else f"{100 * low:.2f}% to {high:.2%}"
    told = f"With 1% of the labels LoRA trains {span} of the parameters."
    return ("holds" if high < STUDY_SHARE else "does not hold"), told


def _nih(outcomes: Sequence[Outcome]) -> tuple[Status, str]:
    asked = next((one for one in outcomes if one.task.name == "mrm-nih-1"), None)
    if asked is None:
        return "not decidable", "This grid does not hold that task: it needs MRM and NIH."
    verdict = asked.verdict
    if verdict is None:
        return "not decidable", "That task has not been run by both methods yet."
    if verdict.evidence in ("above", "below"):
        return ("holds" if verdict.evidence == "above" else "does not hold"), verdict.sentence
    return "not decidable", verdict.sentence


def points(value: float) -> str:
    """A difference in points with its sign: ``+1.2``."""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def _percent(value: float) -> str:
    return f"{100 * value:.0f}%"
