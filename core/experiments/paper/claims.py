"""Claims of the paper's abstract: whether each holds for the results of a grid of tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.evaluation.verdict import Evidence
from core.experiments.paper.results import FEWEST, Outcome
from core.experiments.paper.tasks import CLAIMS
from core.formatting import percent, points, share
from core.metrics.intervals import Interval
from core.metrics.seed_tests import SeedsTest, binomial_interval, seeds_paired

Status = Literal["holds", "does not hold", "not decidable"]

MIN_SEEDS = 2
"""Minimum number of seeds of each task for a decision on a claim."""
PAPER_WINS, PAPER_TASKS, PAPER_GAIN, PAPER_SHARE = 13, 18, 0.029, 0.01
ONE_SEED = "With one seed, the result may change with the next."


@dataclass(frozen=True)
class Ruling:
    """Decision on one claim.

    Attributes:
        claim: The claim, in our words.
        status: Whether it holds for this grid.
        reason: Reason with numbers, as a sentence.
    """

    claim: str
    status: Status
    reason: str


@dataclass(frozen=True)
class Judgement:
    """Summary of a grid of tasks.

    Attributes:
        outcomes: Its tasks.
        compared: Number of tasks with a verdict.
        seeds: Smallest number of seeds of a compared task; 0 if none is compared.
        wins: Number of tasks in which LoRA's mean is higher.
        ties: Number of tasks with equal means.
        win_rate: Share of wins among the tasks that are not ties, with an exact binomial interval.
        over_tasks: Mean difference, tested over tasks (the mean over seeds of each).
        pairs: Number of wins and of all pairs of runs with the same task and seed.
        evidence: Number of tasks by evidence.
        largest: Task with LoRA's largest gain; None if none is compared.
        rulings: Decisions on the claims.
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
    """Count wins, test over tasks, and decide on each claim.

    Args:
        outcomes: All tasks of the grid, compared or not.
    """
    verdicts = [
        (outcome, outcome.verdict)
        for outcome in outcomes
        if outcome.verdict and not math.isnan(outcome.verdict.difference.value)
    ]
    gains = [verdict.difference.value for _, verdict in verdicts]
    wins, ties = sum(gain > 0 for gain in gains), sum(gain == 0 for gain in gains)
    evidence: dict[Evidence, int] = {"above": 0, "below": 0, "unclear": 0, "undecided": 0}
    for _, verdict in verdicts:
        evidence[verdict.evidence] += 1
    compared = [outcome for outcome, _ in verdicts]
    seeds = min((outcome.seeds for outcome in compared), default=0)
    rate = binomial_interval(wins, len(gains) - ties)
    largest = max(compared, key=_gain, default=None)
    return Judgement(
        tuple(outcomes),
        len(gains),
        seeds,
        wins,
        ties,
        rate,
        seeds_paired(gains, [0.0] * len(gains)) if gains else None,
        (
            sum(verdict.seeds.wins for _, verdict in verdicts),
            sum(verdict.seeds.count for _, verdict in verdicts),
        ),
        evidence,
        largest,
        (
            _ruling("wins", *_wins_claim(len(outcomes), len(gains), wins, ties, rate, seeds)),
            _ruling("gain", *_gain_claim(compared, len(outcomes), seeds)),
            _ruling("share", *_share_claim(outcomes)),
            _ruling("nih", *_nih_claim(outcomes)),
        ),
    )


def _ruling(name: str, status: Status, reason: str) -> Ruling:
    return Ruling(CLAIMS[name], status, reason)


def _gain(outcome: Outcome) -> float:
    return outcome.verdict.difference.value if outcome.verdict else -math.inf


def _wins_claim(
    tasks: int, compared: int, wins: int, ties: int, rate: Interval, seeds: int
) -> tuple[Status, str]:
    if not compared:
        return "not decidable", "No task has been run by both methods yet."
    decided = compared - ties
    if not decided:
        return "not decidable", f"Both methods have equal AUROCs in all {compared} tasks compared."
    result = (
        f"LoRA is ahead in {wins} of {decided} tasks (95% interval of the share "
        f"{percent(rate.low)} to {percent(rate.high)})"
    )
    own = binomial_interval(PAPER_WINS, PAPER_TASKS)
    paper = (
        f"The paper's {PAPER_WINS} of {PAPER_TASKS} has the interval {percent(own.low)} to "
        f"{percent(own.high)}."
    )
    if compared < tasks:
        return "not decidable", f"{result}; {tasks - compared} tasks have not been run yet."
    if seeds < MIN_SEEDS:
        return "not decidable", f"{result}. {ONE_SEED} {paper}"
    if rate.low > 0.5:
        return "holds", f"{result}: in most. {paper}"
    if rate.high < 0.5:
        return "does not hold", f"{result}: in fewer than half. {paper}"
    return "not decidable", f"{result}, which includes one half. {paper}"


def _gain_claim(compared: Sequence[Outcome], tasks: int, seeds: int) -> tuple[Status, str]:
    if not compared:
        return "not decidable", "No task has been run by both methods yet."
    best = max(compared, key=_gain)
    gain = best.interval
    assert gain is not None
    result = f"The largest gain is {points(gain.value)} points ({best.task.name}"
    over = "seeds" if best.seeds >= MIN_SEEDS else "patients"
    if not math.isnan(gain.low):
        result += f", 95% interval over {over} {points(gain.low)} to {points(gain.high)}"
    result += ")"
    if len(compared) < tasks:
        return "not decidable", f"{result}; {tasks - len(compared)} tasks have not been run yet."
    if seeds < MIN_SEEDS:
        return "not decidable", f"{result}. {ONE_SEED}"
    limit = f"{100 * PAPER_GAIN:.1f}"
    above = [outcome.task.name for outcome in compared if _clearly_above_limit(outcome)]
    if above:
        return "does not hold", f"{result}. Clearly more than {limit} in {', '.join(above)}."
    intervals = [outcome.interval for outcome in compared]
    if all(interval is not None and interval.high <= PAPER_GAIN for interval in intervals):
        return "holds", f"{result}, and the interval of no task reaches {limit}."
    return "not decidable", f"{result}; the intervals of some tasks exceed {limit}."


def _clearly_above_limit(outcome: Outcome) -> bool:
    verdict = outcome.verdict
    return (
        verdict is not None and min(verdict.difference.low, verdict.over_patients.low) > PAPER_GAIN
    )


def _share_claim(outcomes: Sequence[Outcome]) -> tuple[Status, str]:
    shares = [
        outcome.share
        for outcome in outcomes
        if outcome.share is not None and outcome.task.fraction == FEWEST
    ]
    if not shares:
        return "not decidable", "No task with 1% of the labels has been run with LoRA yet."
    low, high = share(min(shares)), share(max(shares))
    span = low if low == high else f"{low} to {high}"
    result = f"With 1% of the labels LoRA trains {span} of the parameters."
    return ("holds" if max(shares) < PAPER_SHARE else "does not hold"), result


def _nih_claim(outcomes: Sequence[Outcome]) -> tuple[Status, str]:
    task = next((outcome for outcome in outcomes if outcome.task.name == "mrm-nih-1"), None)
    if task is None:
        return "not decidable", "This grid does not contain that task, which needs MRM and NIH."
    verdict = task.verdict
    if verdict is None:
        return "not decidable", "That task has not been run by both methods yet."
    if verdict.evidence in ("above", "below"):
        return ("holds" if verdict.evidence == "above" else "does not hold"), verdict.sentence
    return "not decidable", verdict.sentence
