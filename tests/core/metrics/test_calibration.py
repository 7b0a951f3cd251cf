"""Calibration against scikit-learn, a known temperature, and by hand."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from core.metrics import calibration
from core.metrics.auroc import auroc


def chances(studies: int = 20_000, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the probabilities they were drawn with."""
    generator = np.random.default_rng(seed)
    chance = generator.beta(1, 5, studies)
    return (generator.random(studies) < chance).astype(float), chance


def test_calibration_tells_honest_probabilities_from_shifted_ones() -> None:
    labels, chance = chances()
    assert calibration.calibration_error(labels, chance) < 0.01
    assert calibration.calibration_error(labels, chance * 0.5) == pytest.approx(
        0.5 * chance.mean(), abs=0.01
    )
    assert calibration.brier([1, 0, math.nan], [0.75, 0.25, 0.9]) == pytest.approx(0.0625)
    assert calibration.brier(labels, chance) == pytest.approx(brier_score_loss(labels, chance))
    assert calibration.brier(labels, chance) < calibration.brier(labels, chance * 0.5)


def test_the_reliability_curve_is_that_of_scikit_learn_with_exact_intervals() -> None:
    labels, chance = chances(2_000)
    found = calibration.reliability(labels, chance)
    observed, predicted = calibration_curve(labels, chance, n_bins=10, strategy="quantile")
    assert [one.predicted for one in found] == pytest.approx(list(predicted), abs=1e-3)
    assert [one.observed.value for one in found] == pytest.approx(list(observed), abs=0.006)
    for one in found:
        hits = round(one.observed.value * one.studies)
        exact = binomtest(hits, one.studies).proportion_ci(0.95, "exact")
        assert (one.observed.low, one.observed.high) == pytest.approx((exact.low, exact.high))
    assert sum(one.studies for one in found) == 2_000


def test_the_temperature_is_found_again_and_keeps_every_rank() -> None:
    labels, chance = chances()
    logits = np.log(chance / (1 - chance))
    for made in (0.5, 1.0, 3.0):
        shown = 1 / (1 + np.exp(-logits * made))  # too sure by the factor
        found = calibration.fit_temperature(labels[:, None], shown[:, None])
        assert found == pytest.approx(made, rel=0.05)
        mended = calibration.scaled(shown, found)
        assert mended == pytest.approx(chance, abs=0.02)
        assert auroc(labels, mended) == pytest.approx(auroc(labels, shown), abs=1e-12)
        assert log_loss(labels, mended) <= log_loss(labels, shown) + 1e-9


def test_saturated_and_unknown_values_do_no_harm() -> None:
    labels = np.array([[1, 0], [0, math.nan], [1, 0], [0, 1]])
    found = calibration.fit_temperature(labels, [[1, 0], [0, 0.5], [1, 0.2], [0.3, 0.9]])
    assert 0 < found < math.inf
    assert np.isfinite(calibration.scaled([0.0, 1.0], found)).all()
    assert math.isnan(calibration.fit_temperature([[0.0], [0.0]], [[0.1], [0.2]]))
    assert list(calibration.scaled([0.2, 0.9], math.nan)) == [0.2, 0.9]
    assert calibration.reliability([math.nan], [0.5]) == ()
    assert math.isnan(calibration.brier([math.nan], [0.5]))
    assert math.isnan(calibration.calibration_error([math.nan], [0.5]))
