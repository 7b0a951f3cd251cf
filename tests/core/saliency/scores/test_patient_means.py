import math

import numpy as np
import pytest

from core.metrics.intervals import Interval
from core.saliency.scores import patient_means

PATIENTS = np.array(["a", "a", "b", "c", "c", "c"])
VALUES = np.array([1.0, 0.0, 1.0, 0.0, 0.0, np.nan])


def test_the_mean_is_over_studies_and_the_draws_over_patients():
    found = patient_means.mean_interval(VALUES, PATIENTS, draws=4000)
    assert found.value == pytest.approx(0.4)
    drawn = patient_means.resampled_means(VALUES, PATIENTS, 4000, 0)
    # Each draw holds a, b and c 0 to 3 times; a has sum 1 of 2 studies, b 1 of 1, c 0 of 2.
    possible = {
        round((a + b) / (2 * a + b + 2 * c), 6)
        for a in range(4) for b in range(4) for c in range(4) if a + b + c == 3
    }  # fmt: skip
    assert set(np.round(drawn, 6)) == possible
    assert (drawn == 1).mean() == pytest.approx(1 / 27, abs=0.01)
    assert found.low <= 0.4 <= found.high


def test_findings_have_equal_weight_whatever_their_frequency():
    table = np.full((5, 2), np.nan)
    table[:4, 0], table[4, 1] = 0, 1
    assert patient_means.mean_interval(table, list("abcde")).value == pytest.approx(0.5)


def test_intervals_have_their_nominal_coverage():
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(60), 2)
    hits = 0
    for i in range(200):
        values = np.repeat(generator.normal(size=60), 2) + 0.2 * generator.normal(size=120)
        found = patient_means.mean_interval(values, patients, draws=300, seed=i)
        hits += found.low <= 0 <= found.high
    assert 0.88 <= hits / 200 <= 0.99  # 95%, with studies of one patient far from independent


def test_a_difference_is_taken_on_the_studies_that_have_both():
    first = np.array([1.0, 1.0, 1.0, np.nan, 0.5, 1.0])
    second = np.array([0.0, 0.5, 0.0, 1.0, np.nan, 0.5])
    found = patient_means.paired_difference(first, second, list("abcdef"))
    assert (found.first, found.second) == (1, 0.25)
    assert found.difference.value == pytest.approx(0.75)
    assert 0.5 <= found.difference.low < found.difference.high <= 1
    assert found.p == pytest.approx(2 / 2001)
    other = patient_means.paired_difference(second, first, list("abcdef"))
    assert other.difference.value == pytest.approx(-0.75)
    assert patient_means.paired_difference(first, first, list("abcdef")).p == 1


def test_a_single_patient_has_no_interval():
    one = patient_means.mean_interval([0.5, 0.7], ["a", "a"])
    assert one.value == pytest.approx(0.6)
    assert math.isnan(one.low)
    assert math.isnan(patient_means.mean_interval([np.nan, 0.7], ["a", "b"]).low)
    none = patient_means.mean_interval([np.nan], ["a"])
    assert isinstance(none, Interval)
    assert math.isnan(none.value)
    assert math.isnan(patient_means.paired_difference([0.1], [0.2], ["a"]).p)
