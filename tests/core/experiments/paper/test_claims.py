"""Decisions on the claims, for outcomes with known intervals."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from core.evaluation.verdict import Evidence, Verdict
from core.experiments.paper.claims import Judgement, judge
from core.experiments.paper.results import Outcome
from core.experiments.paper.tasks import CLAIMS, MINIATURE, TASKS, Task
from core.metrics.patient_intervals import PatientDifference
from core.metrics.seed_tests import seeds_paired
from core.metrics.seeds_and_patients import DifferenceTest

PATIENTS = 1000


def outcome(task: Task, gap: float, seeds: int = 5, half: float = 0.01) -> Outcome:
    """A task whose difference has an interval of ``half`` to either side, from its patients."""
    signs = np.random.default_rng(sum(task.name.encode())).choice([-1.0, 1.0], PATIENTS)
    size = half / (float(t.ppf(0.975, PATIENTS - 1)) * math.sqrt(PATIENTS))
    patients = PatientDifference(
        np.full(seeds, 0.7 + gap), np.full(seeds, 0.7), signs * size, np.ones(3, dtype=bool)
    )
    gaps = gap + 1e-5 * np.linspace(-1, 1, seeds)
    variance = float(gaps.var(ddof=1)) / seeds if seeds > 1 else math.nan
    parts = ((variance, seeds - 1.0),)
    test = DifferenceTest(seeds_paired(gaps, 0 * gaps), patients, parts, gaps)
    p = test.p()
    evidence: Evidence = "undecided" if math.isnan(p) else "unclear"
    if p < 0.05:
        evidence = "above" if gap > 0 else "below"
    over_patients = patients.test().difference
    found = Verdict("A sentence.", evidence, test.interval(), 0.95, p, over_patients, test, ())
    return Outcome(task, {"lora": (0.7,), "full": (0.7 - gap,)}, found, share=0.004)


def grid(gaps: list[float], **changes: float) -> Judgement:
    tasks = TASKS[: len(gaps)]
    return judge([outcome(task, gap, **changes) for task, gap in zip(tasks, gaps, strict=True)])  # type: ignore[arg-type]


def statuses(found: Judgement) -> dict[str, str]:
    return {name: ruling.status for name, ruling in zip(CLAIMS, found.rulings, strict=True)}


def test_wins_are_counted_and_the_mean_is_tested_over_patients_and_data_sets() -> None:
    gaps = [0.02] * 13 + [-0.012] * 4 + [0.0]
    found = grid(gaps)
    assert (found.compared, found.wins, found.ties) == (18, 13, 1)
    assert found.win_rate.value == pytest.approx(13 / 17)
    assert found.win_rate.low > 0.5
    assert found.over_tasks is not None
    assert found.over_tasks.value == pytest.approx(np.mean(gaps))
    assert found.pairs == (67, 90)  # of the tie two seeds are above zero
    assert found.evidence == {"above": 13, "below": 4, "unclear": 1, "undecided": 0}
    assert found.over_data is not None
    means = [np.mean([g for t, g in zip(TASKS, gaps, strict=True) if t.data == data])
             for data in dict.fromkeys(task.data for task in TASKS)]  # fmt: skip
    assert found.over_data.p == pytest.approx(ttest_1samp(means, 0).pvalue)


def test_most_tasks_won_holds_and_few_does_not() -> None:
    assert statuses(grid([0.02] * 16 + [-0.01] * 2))["wins"] == "holds"
    assert statuses(grid([0.02] * 2 + [-0.01] * 16))["wins"] == "does not hold"
    # Differences within the interval of other patients may be wins or not.
    close = grid([0.004] * 11 + [-0.004] * 7, half=0.02)
    assert statuses(close)["wins"] == "not decidable"
    assert "The paper's 13 of 18 has the interval 47% to 90%" in close.rulings[0].reason


def test_one_seed_or_a_task_too_few_decides_nothing() -> None:
    one = grid([0.02] * 18, seeds=1)
    assert statuses(one)["wins"] == statuses(one)["gain"] == "not decidable"
    assert "fewer than 3 seeds" in one.rulings[0].reason
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
