"""Decisions on the claims, for outcomes with known intervals."""

import math
from dataclasses import replace

import pytest
from scipy.stats import binomtest, ttest_1samp

from core.evaluation.verdict import Evidence, Verdict
from core.experiments.paper.claims import Judgement, judge
from core.experiments.paper.results import Outcome
from core.experiments.paper.tasks import CLAIMS, MINIATURE, TASKS, Task
from core.metrics.intervals import Interval
from core.metrics.seed_tests import SeedsTest

NAN = math.nan


def outcome(task: Task, gap: float, seeds: int = 5, half: float = 0.01) -> Outcome:
    """A task whose difference has intervals of ``half`` to either side."""
    around = Interval(gap, gap - half, gap + half)
    over = around if seeds > 1 else Interval(gap, NAN, NAN)
    evidence: Evidence = "undecided" if seeds < 2 else "unclear"
    if seeds > 1 and gap - half > 0:
        evidence = "above"
    if seeds > 1 and gap + half < 0:
        evidence = "below"
    test = SeedsTest(over, NAN, seeds, seeds * (gap > 0), 0, Interval(1.0, 0.0, 1.0))
    verdict = Verdict("A sentence.", evidence, over, around, test, ())
    return Outcome(task, {"lora": (0.7,), "full": (0.7 - gap,)}, verdict, share=0.004)


def grid(gaps: list[float], **changes: float) -> Judgement:
    tasks = TASKS[: len(gaps)]
    return judge([outcome(t, gap, **changes) for t, gap in zip(tasks, gaps, strict=True)])  # type: ignore[arg-type]


def statuses(found: Judgement) -> dict[str, str]:
    return {name: ruling.status for name, ruling in zip(CLAIMS, found.rulings, strict=True)}


def test_wins_are_counted_with_an_exact_interval_and_tested_over_tasks() -> None:
    gaps = [0.02] * 13 + [-0.01] * 4 + [0.0]
    found = grid(gaps)
    assert (found.compared, found.wins, found.ties) == (18, 13, 1)
    exact = binomtest(13, 17).proportion_ci(0.95, "exact")
    assert (found.win_rate.low, found.win_rate.high) == pytest.approx((exact.low, exact.high))
    assert found.over_tasks is not None
    assert found.over_tasks.p == pytest.approx(ttest_1samp(gaps, 0).pvalue)
    assert found.pairs == (65, 90)
    assert found.evidence == {"above": 13, "below": 0, "unclear": 5, "undecided": 0}


def test_most_tasks_won_holds_and_few_does_not() -> None:
    assert statuses(grid([0.02] * 16 + [-0.01] * 2))["wins"] == "holds"
    assert statuses(grid([0.02] * 2 + [-0.01] * 16))["wins"] == "does not hold"
    assert statuses(grid([0.02] * 11 + [-0.01] * 7))["wins"] == "not decidable"
    # The interval of the paper's own count includes one half.
    thirteen = grid([0.02] * 13 + [-0.01] * 5)
    assert statuses(thirteen)["wins"] == "not decidable"
    assert "47% to 90%" in thirteen.rulings[0].reason


def test_one_seed_or_a_task_too_few_decides_nothing() -> None:
    one = grid([0.02] * 18, seeds=1)
    assert statuses(one)["wins"] == statuses(one)["gain"] == "not decidable"
    assert "one seed" in one.rulings[0].reason
    assert "18 of 18" in one.rulings[0].reason
    full = [outcome(task, 0.02) for task in TASKS]
    lacking = judge([*full[:-1], replace(full[-1], verdict=None)])
    assert statuses(lacking)["wins"] == "not decidable"
    assert "1 tasks have not been run yet" in lacking.rulings[0].reason
    nothing = judge([replace(one, verdict=None, share=None) for one in full])
    assert set(statuses(nothing).values()) == {"not decidable"}
    assert nothing.largest is None


def test_the_largest_gain_is_compared_with_the_paper() -> None:
    assert statuses(grid([0.01] * 18, half=0.005))["gain"] == "holds"
    assert statuses(grid([0.01] * 17 + [0.06], half=0.005))["gain"] == "does not hold"
    wide = grid([0.01] * 17 + [0.03], half=0.02)
    assert statuses(wide)["gain"] == "not decidable"
    assert wide.largest is not None
    assert wide.largest.task is TASKS[17]
    assert "+3.0 points" in wide.rulings[1].reason


def test_the_trainable_share_needs_no_seeds() -> None:
    found = grid([0.01] * 18, seeds=1)
    assert statuses(found)["share"] == "holds"
    assert "0.4%" in found.rulings[2].reason
    heavy = judge([replace(outcome(task, 0.01), share=0.02) for task in TASKS])
    assert statuses(heavy)["share"] == "does not hold"


def test_nih_is_asked_of_that_task_alone() -> None:
    assert statuses(grid([0.02] * 18))["nih"] == "holds"
    assert statuses(grid([-0.02] + [0.02] * 17))["nih"] == "does not hold"
    small = judge([outcome(task, 0.02) for task in MINIATURE])
    assert statuses(small)["nih"] == "not decidable"
    assert "does not contain that task" in small.rulings[3].reason
