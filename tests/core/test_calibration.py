"""Operating points and calibration, against brute force."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from core import calibration


def sample(studies: int = 500) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    chance = np.round(generator.beta(1, 5, studies), 2)  # with ties
    return (generator.random(studies) < chance).astype(float), chance


def test_youden_maximises_over_all_thresholds() -> None:
    labels, scores = sample()
    found = calibration.operating_point(labels, scores)
    wrong, right, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert found.sensitivity + found.specificity - 1 == pytest.approx((right - wrong).max())
    again = calibration.at_threshold(labels, scores, found.threshold)
    assert again == found


def test_fixed_sensitivity_and_specificity_are_reached_and_not_overdone() -> None:
    labels, scores = sample()
    levels = np.unique(scores)
    sensitive = calibration.operating_point(labels, scores, "sensitivity", 0.9)
    assert sensitive.sensitivity >= 0.9
    stricter = levels[levels > sensitive.threshold].min()
    assert calibration.at_threshold(labels, scores, stricter).sensitivity < 0.9
    specific = calibration.operating_point(labels, scores, "specificity", 0.9)
    assert specific.specificity >= 0.9
    laxer = levels[levels < specific.threshold].max()
    assert calibration.at_threshold(labels, scores, laxer).specificity < 0.9


def test_calling_nobody_positive_is_possible() -> None:
    found = calibration.operating_point([0, 1, 0], [0.9, 0.5, 0.1], "specificity", 1.0)
    assert found.specificity == 1
    assert found.threshold > 0.9
    assert found.sensitivity == 0


def test_one_class_has_no_operating_point() -> None:
    assert math.isnan(calibration.operating_point([0, 0], [0.1, 0.2]).threshold)
    assert math.isnan(calibration.at_threshold([0, 0], [0.1, 0.2], 0.15).sensitivity)
    assert math.isnan(calibration.at_threshold([0, 1], [0.1, 0.2], math.nan).sensitivity)
    assert math.isnan(calibration.brier([math.nan], [0.5]))
    assert math.isnan(calibration.calibration_error([math.nan], [0.5]))


def test_calibration_tells_honest_probabilities_from_shifted_ones() -> None:
    generator = np.random.default_rng(1)
    chance = generator.beta(1, 5, 20_000)
    labels = (generator.random(20_000) < chance).astype(float)
    assert calibration.calibration_error(labels, chance) < 0.01
    assert calibration.calibration_error(labels, chance * 0.5) == pytest.approx(
        0.5 * chance.mean(), abs=0.01
    )
    assert calibration.brier([1, 0, math.nan], [0.75, 0.25, 0.9]) == pytest.approx(0.0625)
    assert calibration.brier(labels, chance) < calibration.brier(labels, chance * 0.5)
