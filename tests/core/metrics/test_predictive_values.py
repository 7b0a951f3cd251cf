"""Intervals of PPV and NPV, compared with published formulas and with simulations."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import precision_score

from core.metrics.intervals import Interval, OperatingPoint
from core.metrics.operating_point import at_threshold
from core.metrics.predictive_values import predictive_value_intervals
from tests.benchmarks.predictive_values import STATED, Setting, coverage

LABELS = np.array([1.0] * 40 + [0.0] * 160)
CALLED = np.array([1.0] * 30 + [0.0] * 10 + [1.0] * 20 + [0.0] * 140)
POINT = at_threshold(LABELS, CALLED, 0.5)


def test_at_the_own_prevalence_the_intervals_are_exact() -> None:
    ppv, npv = predictive_value_intervals(LABELS, CALLED, POINT)
    assert ppv.value == pytest.approx(precision_score(LABELS, CALLED))
    for interval, right, count in ((ppv, 30, 50), (npv, 140, 150)):
        exact = binomtest(right, count).proportion_ci(0.95, "exact")
        assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high))


def test_at_a_stated_prevalence_they_are_those_of_the_delta_method() -> None:
    ppv, npv = predictive_value_intervals(LABELS, CALLED, POINT, 0.02)
    assert ppv.value == pytest.approx(0.02 * 0.75 / (0.02 * 0.75 + 0.98 * 0.125))
    # Mercaldo, Lau and Zhou (2007): variances of the logits of PPV and NPV.
    errors = (0.25 / 0.75 / 40 + 0.875 / 0.125 / 160, 0.75 / 0.25 / 40 + 0.125 / 0.875 / 160)
    for interval, error in zip((ppv, npv), errors, strict=True):
        logits = [math.log(each / (1 - each)) for each in (interval.value, interval.low)]
        assert logits[0] - logits[1] == pytest.approx(1.959964 * math.sqrt(error))
        assert interval.low < interval.value < interval.high


def test_copies_of_a_study_do_not_narrow_the_intervals() -> None:
    patients = np.arange(200)
    twice = [np.repeat(each, 2) for each in (LABELS, CALLED, patients)]
    for prevalence in (None, 0.02):
        once = predictive_value_intervals(LABELS, CALLED, POINT, prevalence, patients)
        double = predictive_value_intervals(*twice[:2], POINT, prevalence, twice[2])
        independent = predictive_value_intervals(*twice[:2], POINT, prevalence)
        for a, b, c in zip(once, double, independent, strict=True):
            assert a.value == pytest.approx(b.value)
            # The patients' own variance and Student's t make the interval a little wider.
            assert _width(a) < _width(b) < 1.1 * _width(a)
            assert _width(c) < 0.8 * _width(a)


def _width(interval: Interval) -> float:
    return interval.high - interval.low


def test_values_without_errors_have_an_interval_on_one_side() -> None:
    point = at_threshold(LABELS, LABELS, 0.5)
    for prevalence in (None, 0.02):
        for interval in predictive_value_intervals(LABELS, LABELS, point, prevalence):
            assert 0 < interval.low < interval.value == interval.high == 1
    everybody = np.ones(200)
    point = at_threshold(LABELS, everybody, 0.5)
    ppv, npv = predictive_value_intervals(LABELS, everybody, point, 0.02)
    assert ppv.value == pytest.approx(0.02)
    assert ppv.low < ppv.value < ppv.high
    assert all(map(math.isnan, (npv.value, npv.low, npv.high)))


def test_undefined_values_have_no_interval() -> None:
    nothing = OperatingPoint(math.nan, math.nan, math.nan)
    for prevalence in (None, 0.02):
        for interval in predictive_value_intervals(LABELS, CALLED, nothing, prevalence):
            assert math.isnan(interval.value)
            assert math.isnan(interval.low)
    healthy = np.zeros(200)
    point = at_threshold(healthy, CALLED, 0.5)
    assert math.isnan(predictive_value_intervals(healthy, CALLED, point, 0.02)[0].high)
    unknown = np.where(np.arange(200) % 2, LABELS, np.nan)
    known = predictive_value_intervals(LABELS[1::2], CALLED[1::2], POINT)
    assert predictive_value_intervals(unknown, CALLED, POINT) == known


@pytest.mark.parametrize(
    "setting",
    [
        Setting(200, 1, 0.0, 0.1, OperatingPoint(0.0, 0.8, 0.9)),
        Setting(100, 4, 0.5, 0.1, OperatingPoint(0.0, 0.8, 0.9)),
    ],
    ids=["one study per patient", "four studies per patient"],
)
def test_the_intervals_hold_the_truth(setting: Setting) -> None:
    simulations = 1000
    found = coverage(setting, simulations)
    assert found.keys() == {"PPV", "NPV", f"PPV at {STATED:.0%}", f"NPV at {STATED:.0%}"}
    error = math.sqrt(0.05 * 0.95 / simulations)
    assert min(found.values()) > 0.95 - 2 * error
    if setting.studies > 1:
        assert coverage(setting, simulations, clustered=False)["PPV"] < 0.95 - 2 * error
