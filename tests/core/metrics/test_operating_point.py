"""Operating points, compared with scikit-learn's ROC curve and with all thresholds."""

import math

import numpy as np
import pytest
from sklearn.metrics import precision_score, roc_curve

from core.metrics import operating_point
from core.metrics.intervals import OperatingPoint


def probabilities(studies: int = 500) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    chance = np.round(generator.beta(1, 5, studies), 2)  # with ties
    return (generator.random(studies) < chance).astype(float), chance


def test_youden_maximises_over_all_thresholds() -> None:
    labels, scores = probabilities()
    found = operating_point.operating_point(labels, scores, "youden")
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


def test_predictive_values_at_the_own_prevalence_are_those_that_are_counted() -> None:
    labels, scores = probabilities()
    point = operating_point.operating_point(labels, scores, "youden")
    ppv, npv = operating_point.predictive_values(point, float(labels.mean()))
    positive = scores >= point.threshold
    assert ppv == pytest.approx(precision_score(labels, positive))
    assert npv == pytest.approx(precision_score(1 - labels, ~positive))


def test_predictive_values_follow_the_stated_prevalence() -> None:
    point = OperatingPoint(0.5, 0.9, 0.95)
    ppv, npv = operating_point.predictive_values(point, 0.02)
    assert ppv == pytest.approx(0.018 / (0.018 + 0.049))
    assert npv == pytest.approx(0.931 / (0.931 + 0.002))
    nobody = operating_point.predictive_values(OperatingPoint(1.1, 0.0, 1.0), 0.02)
    assert math.isnan(nobody[0])
    assert nobody[1] == pytest.approx(0.98)
    undefined = OperatingPoint(math.nan, math.nan, math.nan)
    assert all(map(math.isnan, operating_point.predictive_values(undefined, 0.02)))
