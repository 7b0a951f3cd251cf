"""DeLong's variance and test, compared with R's pROC and with clustered copies."""

import json
import math

import numpy as np
import pytest

from core.metrics import delong
from tests.support.clustered_scores import sample
from tests.support.paths import GOLDEN

CASES = json.loads((GOLDEN / "metrics" / "delong.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{len(case['y'])} studies")
def test_delong_agrees_with_proc(case: dict) -> None:
    expected = case["expected"]
    test = delong.delong_paired(case["y"], case["score_a"], case["score_b"])
    found = {"z": test.statistic, "p_value": test.p}
    for name in "ab":
        interval = delong.delong_interval(case["y"], case[f"score_{name}"])
        found[f"auroc_{name}"] = interval.value
        found[f"ci95_{name}_low"], found[f"ci95_{name}_high"] = interval.low, interval.high
        covariance = delong.delong_covariance(case["y"], [case[f"score_{name}"]])[1]
        found[f"variance_{name}"] = covariance[0, 0]
    assert found == pytest.approx(expected, rel=1e-6)


def test_too_few_studies_or_perfect_ranks_have_no_interval() -> None:
    one = delong.delong_interval([1, 0, 0, 0], [0.5, 0.1, 0.6, 0.2])
    assert one.value == pytest.approx(2 / 3)
    assert math.isnan(one.low)
    perfect = delong.delong_interval([1, 1, 0, 0], [0.8, 0.9, 0.1, 0.2])
    assert perfect.value == 1
    assert math.isnan(perfect.high)
    same = delong.delong_paired([1, 1, 0, 0, 1], [1, 3, 2, 0, 5], [2, 6, 4, 0, 10])
    assert (same.difference.value, same.p) == (0, 1)
    apart = delong.delong_paired([1, 1, 0, 0], [3, 4, 1, 2], [1, 2, 3, 4])
    assert apart.difference.value == 1
    assert math.isnan(apart.p)


def test_patients_with_one_study_each_change_nothing_and_copies_widen() -> None:
    labels, scores, other, _ = sample()
    y, a, b = labels[:, 0], scores[:, 0], other[:, 0]
    alone = delong.delong_covariance(y, [a, b])
    named = delong.delong_covariance(y, [a, b], [f"P{i:04d}" for i in range(len(y))])
    np.testing.assert_allclose(alone[1], named[1], rtol=1e-12)
    # Every study four times over holds no more knowledge than once.
    times = [np.tile(one, 4) for one in (y, a, b, np.arange(len(y)))]
    copied = delong.delong_covariance(times[0], times[1:3], times[3])
    np.testing.assert_allclose(copied[1], alone[1], rtol=0.02)
    blind = delong.delong_covariance(times[0], times[1:3])
    assert blind[1][0, 0] < 0.3 * alone[1][0, 0]
