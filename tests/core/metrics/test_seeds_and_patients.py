"""The test of a difference over seeds and patients."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from core.metrics.seeds_and_patients import difference_test, mean_difference, share_above_zero
from tests.benchmarks.verdict import Cohort, pair


def cohort(seed: int = 0) -> Cohort:
    return Cohort.draw((0.3, 0.3, 0.3), np.random.default_rng(seed))


def test_with_wide_seeds_it_is_the_t_test_over_seeds() -> None:
    random = np.random.default_rng(1)
    own = cohort()
    sides = [own.runs(0.75, 6, 0.2, random) for _ in range(2)]
    found = difference_test(own.labels, *sides, own.patients, paired=True)
    assert found.p() == pytest.approx(ttest_1samp(found.gaps, 0).pvalue, rel=0.1)


def test_with_equal_seeds_it_is_the_test_over_patients() -> None:
    random = np.random.default_rng(1)
    own = cohort()
    sides = [own.runs(auroc, 1, 0.0, random) * 3 for auroc in (0.85, 0.75)]
    found = difference_test(own.labels, *sides, own.patients, paired=True)
    assert not found.parts
    alone = found.patients.test()
    assert found.p() == pytest.approx(alone.p)
    assert found.interval() == alone.difference


@pytest.mark.parametrize("null", [0.0, 0.029])
@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_excludes_what_the_test_rejects(seeds: int, null: float) -> None:
    for seed in range(8):
        found = pair((0.3, 0.3), seeds, 1, 0.04, seed)
        level = 1 - found.p(null)
        wider, narrower = (found.interval(level + step) for step in (1e-6, -1e-6))
        assert wider.low < null < wider.high
        assert not narrower.low < null < narrower.high


def test_one_or_two_seeds_or_equal_gaps_decide_nothing() -> None:
    for seeds in (1, 2):
        found = pair((0.3, 0.3), seeds, 1, 0.2, 0)
        assert math.isnan(found.p())
        assert math.isnan(found.interval().low)
    own = cohort()
    runs = own.runs(0.75, 1, 0.0, np.random.default_rng(0))
    # Another score, the same ranking: the gap is the same with every seed.
    found = difference_test(
        own.labels, [runs[0], 2 * runs[0], 3 * runs[0]], [own.common] * 3, own.patients, paired=True
    )
    assert found.parts
    assert math.isnan(found.p())


def test_bounds_are_possible_differences() -> None:
    found = replace(pair((0.3, 0.3), 3, 1, 0.0, 0), parts=((0.1, 2.0),)).interval()
    assert (found.low, found.high) == (-1, 1)


def test_the_mean_over_tasks_on_the_same_patients_does_not_narrow() -> None:
    test = pair((0.3, 0.3), 5, 1, 0.0, 3)
    same = mean_difference([test] * 4, ["a"] * 4)
    other = mean_difference([test] * 4, ["a", "b", "c", "d"])
    assert same.value == pytest.approx(test.value)
    assert same.p() == pytest.approx(test.p())
    assert same.patients.variance == pytest.approx(4 * other.patients.variance)


def test_tasks_that_err_alike_give_a_wide_share_of_wins() -> None:
    tests = [pair((0.3, 0.3), 5, 1, 0.0, 0)] * 18
    alike = share_above_zero(tests, ["a"] * 18)
    assert (alike.low, alike.high) == (0, 1)
    better = [pair((0.3, 0.3), 5, 0, 0.2, seed) for seed in range(6)]
    assert share_above_zero(better, range(6)).low == 1
    assert math.isnan(share_above_zero([], []).low)
