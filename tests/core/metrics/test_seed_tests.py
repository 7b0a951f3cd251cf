"""Tests over seeds, against SciPy and by hand."""

import math

import pytest
from scipy.stats import binomtest, ttest_ind, ttest_rel

from core.metrics import seed_tests

LORA = [0.812, 0.806, 0.821, 0.809, 0.815]
FULL = [0.790, 0.801, 0.799, 0.809, 0.780]


def test_pairs_agree_with_scipy() -> None:
    found = seed_tests.seeds_paired(LORA, FULL)
    expected = ttest_rel(LORA, FULL)
    bounds = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.difference.low, found.difference.high) == pytest.approx(tuple(bounds))
    assert (found.count, found.wins, found.ties) == (5, 4, 1)
    exact = binomtest(4, 4).proportion_ci(0.95, "exact")
    assert (found.win_rate.low, found.win_rate.high) == pytest.approx((exact.low, exact.high))


def test_groups_agree_with_welch() -> None:
    found = seed_tests.seeds_unpaired(LORA, FULL[:3])
    expected = ttest_ind(LORA, FULL[:3], equal_var=False)
    bounds = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.difference.low, found.difference.high) == pytest.approx(tuple(bounds))
    assert found.count == 3


def test_one_seed_decides_nothing() -> None:
    for test in (
        seed_tests.seeds_paired([0.9], [0.8]),
        seed_tests.seeds_unpaired([0.9], [0.8, 0.7]),
    ):
        assert test.difference.value > 0
        assert math.isnan(test.p)
        assert math.isnan(test.difference.low)


def test_equal_runs_do_not_differ() -> None:
    same = seed_tests.seeds_paired([0.8, 0.9], [0.8, 0.9])
    assert (same.difference.value, same.p, same.wins, same.ties) == (0, 1, 0, 2)
    assert math.isnan(same.win_rate.value)


def test_seeds_must_pair() -> None:
    with pytest.raises(ValueError, match="pairs"):
        seed_tests.seeds_paired([0.9, 0.8], [0.7])


@pytest.mark.parametrize(("wins", "trials"), [(0, 7), (13, 18), (18, 18)])
def test_binomial_interval_is_exact(wins: int, trials: int) -> None:
    found = seed_tests.binomial_interval(wins, trials)
    exact = binomtest(wins, trials).proportion_ci(0.95, "exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))
    assert found.value == wins / trials
