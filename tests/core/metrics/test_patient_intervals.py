"""Intervals and tests over patients, against DeLong's variance, resampling and by hand."""

import math

import numpy as np
import pytest

from core.metrics.auroc import macro, per_finding
from core.metrics.delong import delong_covariance
from core.metrics.patient_intervals import (
    MIN_PATIENTS,
    auroc_difference,
    auroc_interval,
    gap_between_parts,
)
from tests.support.clustered_scores import sample


def resampled(statistic, patients, draws: int = 400) -> float:
    """Standard deviation of a statistic over resampled patients."""
    generator = np.random.default_rng(0)
    rows = [np.flatnonzero(patients == name) for name in np.unique(patients)]
    values = [
        statistic(np.concatenate([rows[i] for i in generator.integers(0, len(rows), len(rows))]))
        for _ in range(draws)
    ]
    return float(np.std(values))


def test_one_finding_has_the_variance_of_delong() -> None:
    labels, a, b, _ = sample()
    found = auroc_difference(labels[:, 0], [a[:, 0]], [b[:, 0]])
    areas, covariance = delong_covariance(labels[:, 0], [a[:, 0], b[:, 0]])
    assert found.value == pytest.approx(areas[0] - areas[1])
    expected = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert found.variance == pytest.approx(expected, rel=1e-9)


def test_the_mean_over_findings_has_the_variance_of_resampled_patients() -> None:
    labels, a, b, patients = sample()
    found = auroc_difference(labels, [a], [b], patients)
    gap = resampled(
        lambda rows: (
            macro(per_finding(labels[rows], a[rows])) - macro(per_finding(labels[rows], b[rows]))
        ),
        patients,
    )
    assert math.sqrt(found.variance) == pytest.approx(gap, rel=0.15)
    half = auroc_interval(labels, a, patients)
    alone = resampled(lambda rows: macro(per_finding(labels[rows], a[rows])), patients)
    assert (half.high - half.low) / 2 == pytest.approx(2 * alone, rel=0.25)


def test_copies_of_a_patients_studies_do_not_narrow_the_interval() -> None:
    labels, scores, _, _ = sample()
    names = np.arange(len(labels))
    times = [np.concatenate([each] * 4) for each in (labels, scores, names)]
    once, copied = auroc_interval(labels, scores), auroc_interval(*times)
    blind = auroc_interval(times[0], times[1])
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.05)
    assert blind.high - blind.low < 0.6 * (once.high - once.low)


def test_a_perfect_ranking_has_a_lower_bound_that_more_positives_raise() -> None:
    lows = []
    for positives in (1, 3, 30):
        labels = np.arange(300) < positives
        found = auroc_interval(labels.astype(float), labels + 0.001 * np.arange(300))
        assert (found.value, found.high) == (1, 1)
        lows.append(found.low)
    assert 0 < lows[0] < lows[1] < lows[2] < 1


def test_findings_of_few_patients_are_not_tested() -> None:
    generator = np.random.default_rng(0)
    labels = np.zeros((200, 2))
    labels[:80, 0], labels[: MIN_PATIENTS - 1, 1] = 1, 1
    a, b = generator.normal(size=(2, 200, 2)) + labels
    found = auroc_difference(labels, [a], [b])
    assert found.findings.tolist() == [True, False]
    assert found.value == pytest.approx(
        auroc_difference(labels[:, :1], [a[:, :1]], [b[:, :1]]).value
    )
    rare = auroc_difference(labels[:, 1], [a[:, 1]], [b[:, 1]]).test()
    assert math.isnan(rare.p)
    assert math.isnan(rare.difference.low)
    # One patient with many studies counts once.
    one = auroc_difference(labels[:, 0], [a[:, 0]], [b[:, 0]], np.repeat(np.arange(20), 10))
    assert not one.findings.any()


def test_equal_rankings_do_not_differ_and_groups_are_means() -> None:
    labels, a, b, patients = sample()
    same = auroc_difference(labels, [a], [2 * a + 1], patients).test()
    assert (same.difference.value, same.p) == (0, 1)
    half = auroc_difference(labels, [a, b], [b, b], patients)
    whole = auroc_difference(labels, [a], [b], patients)
    assert half.value == pytest.approx(whole.value / 2)
    assert half.variance == pytest.approx(whole.variance / 4)


def test_parts_that_share_patients_are_compared_within_them() -> None:
    labels, a, _, _ = sample()
    both = np.concatenate([labels, labels]), np.concatenate([a, a])
    halves = np.arange(len(both[0])) < len(labels)
    patients = np.tile(np.arange(len(labels)), 2)
    apart = gap_between_parts(*both, (halves, ~halves), np.arange(len(both[0])))
    assert apart.value == 0
    assert apart.low < 0 < apart.high
    mean = auroc_interval(labels, a)
    assert apart.high - apart.low > mean.high - mean.low
    # The same studies twice: the difference varies less than between strangers.
    within = gap_between_parts(*both, (halves, ~halves), patients)
    assert within.high - within.low <= apart.high - apart.low + 1e-9


def test_nothing_defined_has_no_interval_and_shapes_are_checked() -> None:
    nothing = auroc_interval(np.zeros((4, 1)), np.arange(4.0)[:, None])
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.low)
    with pytest.raises(ValueError, match="must"):
        auroc_interval(np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(2))
