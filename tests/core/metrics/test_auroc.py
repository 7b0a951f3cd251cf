"""The statistics against R's pROC, scikit-learn, brute force and known coverage."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from core.metrics import delong, intervals, operating_point
from core.metrics.auroc import auroc, average_precision, macro, per_finding
from tests.support.paths import GOLDEN

CASES = json.loads((GOLDEN / "metrics" / "delong.json").read_text())["cases"]


def sample(studies: int = 400, findings: int = 3, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Labels, scores of a better and a worse model, and patients with several studies each."""
    generator = np.random.default_rng(seed)
    patients = generator.integers(0, studies // 3, studies)
    habit = generator.normal(size=(studies // 3, findings))[patients]
    labels = (generator.random((studies, findings)) < 0.2).astype(np.float32)
    better = labels + habit + generator.normal(size=labels.shape)
    return labels, better, better + generator.normal(size=labels.shape), patients


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{len(case['y'])} studies")
def test_delong_agrees_with_proc(case: dict) -> None:
    expected = case["expected"]
    test = delong.delong_paired(case["y"], case["score_a"], case["score_b"])
    found = {"z": test.statistic, "p_value": test.p}
    for name in "ab":
        interval = delong.delong_interval(case["y"], case[f"score_{name}"])
        found[f"auroc_{name}"] = interval.value
        found[f"ci95_{name}_low"], found[f"ci95_{name}_high"] = interval.low, interval.high
        found[f"variance_{name}"] = delong.delong_variance(case["y"], case[f"score_{name}"])
    assert found == pytest.approx(expected, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 60), st.integers(2, 9))
def test_auroc_is_the_share_of_pairs_won(seed: int, studies: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, studies)
    scores = generator.integers(0, levels, studies).astype(np.float32)
    if labels.min() == labels.max():
        assert math.isnan(auroc(labels, scores))
        return
    gaps = scores[labels == 1][:, None] - scores[labels == 0][None]
    assert auroc(labels, scores) == pytest.approx(((gaps > 0) + 0.5 * (gaps == 0)).mean())
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    assert average_precision(labels, scores) == pytest.approx(
        average_precision_score(labels, scores)
    )


def test_unknown_labels_are_left_out_and_one_class_is_not_defined() -> None:
    labels = np.array([[1, 0, np.nan], [0, 0, 1], [np.nan, 0, 0], [1, 0, 1]])
    scores = np.array([[0.9, 0.1, 0.5], [0.2, 0.9, 0.8], [0.99, 0.3, 0.1], [0.1, 0.4, 0.7]])
    each = per_finding(labels, scores)
    assert each[0] == 0.5
    assert math.isnan(each[1])
    assert each[2] == 1.0
    assert macro(each) == 0.75
    assert math.isnan(macro([math.nan, math.nan]))
    assert math.isnan(average_precision([0, 0], [0.1, 0.2]))


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="score is NaN"):
        auroc([0, 1], [0.1, math.nan])
    with pytest.raises(ValueError, match=r"1, 0 or NaN"):
        auroc([0, 2], [0.1, 0.2])
    with pytest.raises(ValueError, match="both be"):
        per_finding(np.zeros((3, 2)), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="patients"):
        delong.delong_interval([0, 1, 1], [0.1, 0.2, 0.3], ["P1", "P2"])


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


def test_holm_by_hand() -> None:
    adjusted = intervals.holm([0.01, math.nan, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(adjusted, [0.03, math.nan, 0.06, 0.06, 0.02])
    assert intervals.holm([0.6, 0.9]).max() == 1


def probabilities(studies: int = 500) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    chance = np.round(generator.beta(1, 5, studies), 2)  # with ties
    return (generator.random(studies) < chance).astype(float), chance


def test_youden_maximises_over_all_thresholds() -> None:
    labels, scores = probabilities()
    found = operating_point.operating_point(labels, scores)
    wrong, right, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert found.sensitivity + found.specificity - 1 == pytest.approx((right - wrong).max())
    again = operating_point.at_threshold(labels, scores, found.threshold)
    assert again == found


def test_fixed_sensitivity_and_specificity_are_reached_and_not_overdone() -> None:
    labels, scores = probabilities()
    levels = np.unique(scores)
    sensitive = operating_point.operating_point(labels, scores, "sensitivity", 0.9)
    assert sensitive.sensitivity >= 0.9
    stricter = levels[levels > sensitive.threshold].min()
    assert operating_point.at_threshold(labels, scores, stricter).sensitivity < 0.9
    specific = operating_point.operating_point(labels, scores, "specificity", 0.9)
    assert specific.specificity >= 0.9
    laxer = levels[levels < specific.threshold].max()
    assert operating_point.at_threshold(labels, scores, laxer).specificity < 0.9


def test_calling_nobody_positive_is_possible() -> None:
    found = operating_point.operating_point([0, 1, 0], [0.9, 0.5, 0.1], "specificity", 1.0)
    assert found.specificity == 1
    assert found.threshold > 0.9
    assert found.sensitivity == 0


def test_one_class_has_no_operating_point() -> None:
    assert math.isnan(operating_point.operating_point([0, 0], [0.1, 0.2]).threshold)
    assert math.isnan(operating_point.at_threshold([0, 0], [0.1, 0.2], 0.15).sensitivity)
    assert math.isnan(operating_point.at_threshold([0, 1], [0.1, 0.2], math.nan).sensitivity)
