"""DeLong's variance and test, compared with R's pROC and with clustered copies."""

import json
import math
from statistics import NormalDist

import numpy as np
import pytest

from core.metrics import delong
from tests.support.clustered_scores import sample
from tests.support.paths import GOLDEN

CASES = json.loads((GOLDEN / "metrics" / "delong.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{len(case['y'])} studies")
def test_delong_agrees_with_proc(case: dict) -> None:
    expected = case["expected"]
    areas, covariance = delong.delong_covariance(case["y"], [case["score_a"], case["score_b"]])
    z = (areas[0] - areas[1]) / math.sqrt(
        covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    )
    found = {"z": z, "p_value": math.erfc(abs(z) / math.sqrt(2))}
    for i, name in enumerate("ab"):
        half = NormalDist().inv_cdf(0.975) * math.sqrt(covariance[i, i])
        found[f"auroc_{name}"], found[f"variance_{name}"] = areas[i], covariance[i, i]
        found[f"ci95_{name}_low"] = max(0.0, areas[i] - half)
        found[f"ci95_{name}_high"] = min(1.0, areas[i] + half)
    assert found == pytest.approx(expected, rel=1e-9)


def test_too_few_studies_have_no_variance() -> None:
    areas, covariance = delong.delong_covariance([1, 0, 0, 0], [[0.5, 0.1, 0.6, 0.2]])
    assert areas[0] == pytest.approx(2 / 3)
    assert math.isnan(covariance[0, 0])
    assert math.isnan(delong.delong_covariance([0, 0], [[0.5, 0.1]])[0][0])


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
