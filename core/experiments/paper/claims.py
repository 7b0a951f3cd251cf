"""Claims of the paper's abstract: whether each holds for the results of a grid of tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.evaluation.verdict import LEVEL, Evidence, Verdict
from core.experiments.paper.results import FEWEST, Outcome
from core.experiments.paper.tasks import CLAIMS
from core.formatting import percent, points, share
from core.metrics.intervals import Interval, holm
from core.metrics.seed_tests import SeedsTest, binomial_interval, seeds_paired
from core.metrics.seeds_and_patients import (
    MIN_SEEDS,
    DifferenceTest,
    mean_difference,
    share_above_zero,
)

Status = Literal["holds", "does not hold", "not decidable"]

PAPER_WINS, PAPER_TASKS, PAPER_GAIN, PAPER_SHARE = 13, 18, 0.029, 0.01
FEW_SEEDS = f"With fewer than {MIN_SEEDS} seeds, the result may change with the next."


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
        win_rate: Share of wins among the tasks that are not ties, with its interval over seeds and
            patients; tasks on the same test images vary together.
        over_tasks: Mean difference over these tasks, tested over seeds and patients.
        over_data: Mean difference, tested over the data sets: whether it holds for other ones.
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
    over_tasks: DifferenceTest | None
    over_data: SeedsTest | None
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
    tests = [verdict.test for _, verdict in verdicts]
    data = [outcome.task.data for outcome, _ in verdicts]
    gains = [verdict.difference.value for _, verdict in verdicts]
    wins, ties = sum(gain > 0 for gain in gains), sum(gain == 0 for gain in gains)
    evidence: dict[Evidence, int] = {"above": 0, "below": 0, "unclear": 0, "undecided": 0}
    for _, verdict in verdicts:
        evidence[verdict.evidence] += 1
    compared = [outcome for outcome, _ in verdicts]
    seeds = min((outcome.seeds for outcome in compared), default=0)
    rate = share_above_zero(tests, data)
    largest = max(compared, key=_gain, default=None)
    return Judgement(
        tuple(outcomes),
        len(gains),
        seeds,
        wins,
        ties,
        rate,
        mean_difference(tests, data) if tests else None,
        _over_data(gains, data),
        (sum(test.seeds.wins for test in tests), sum(test.seeds.count for test in tests)),
        evidence,
        largest,
        (
            _ruling("wins", *_wins_claim(len(outcomes), len(gains), wins, ties, rate, seeds)),
            _ruling("gain", *_gain_claim(compared, len(outcomes), seeds)),
            _ruling("share", *_share_claim(outcomes)),
            _ruling("nih", *_nih_claim(outcomes)),
        ),
    )


def _over_data(gains: Sequence[float], data: Sequence[str]) -> SeedsTest | None:
    """Test over the data sets of the mean gain of each; None with fewer than two."""
    by_data: dict[str, list[float]] = {}
    for gain, name in zip(gains, data, strict=True):
        by_data.setdefault(name, []).append(gain)
    means = [sum(each) / len(each) for each in by_data.values()]
    return seeds_paired(means, [0.0] * len(means)) if len(means) > 1 else None


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
    result = f"LoRA is ahead in {wins} of {decided} tasks"
    if not math.isnan(rate.low):
        result += f" (95% interval of the share {percent(rate.low)} to {percent(rate.high)})"
    own = binomial_interval(PAPER_WINS, PAPER_TASKS)
    paper = (
        f"The paper's {PAPER_WINS} of {PAPER_TASKS} has the interval {percent(own.low)} to "
        f"{percent(own.high)}."
    )
    if compared < tasks:
        return "not decidable", f"{result}; {tasks - compared} tasks have not been run yet."
    if seeds < MIN_SEEDS:
        return "not decidable", f"{result}. {FEW_SEEDS} {paper}"
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
    assert best.verdict is not None
    result = f"The largest gain is {points(gain.value)} points ({best.task.name}"
    over = "patients" if math.isnan(best.verdict.difference.low) else "seeds and patients"
    if not math.isnan(gain.low):
        result += f", 95% interval over {over} {points(gain.low)} to {points(gain.high)}"
    result += ")"
    if len(compared) < tasks:
        return "not decidable", f"{result}; {tasks - len(compared)} tasks have not been run yet."
    if seeds < MIN_SEEDS:
        return "not decidable", f"{result}. {FEW_SEEDS}"
    limit = f"{100 * PAPER_GAIN:.1f}"
    verdicts = [(outcome, outcome.verdict) for outcome in compared if outcome.verdict]
    corrected = holm([verdict.test.p(PAPER_GAIN) for _, verdict in verdicts])
    above = [
        outcome.task.name
        for (outcome, verdict), p in zip(verdicts, corrected, strict=True)
        if p < LEVEL and verdict.test.value > PAPER_GAIN
    ]
    if above:
        return "does not hold", f"{result}. Clearly more than {limit} in {', '.join(above)}."
    if all(_within_limit(verdict) for _, verdict in verdicts):
        return "holds", f"{result}, and the interval of no task reaches {limit}."
    return "not decidable", f"{result}; the intervals of some tasks exceed {limit}."


def _within_limit(verdict: Verdict) -> bool:
    return verdict.test.interval().high <= PAPER_GAIN


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
