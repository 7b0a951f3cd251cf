"""The bootstrap against resampling by hand, and against DeLong."""

import math

import numpy as np
import pytest

from core.metrics import bootstrap
from core.metrics.auroc import macro, per_finding
from core.metrics.delong import delong_paired
from tests.support.clustered_scores import sample


def test_bootstrap_draws_are_aurocs_of_resampled_patients() -> None:
    labels, a, b, patients = sample(studies=120)
    a = np.round(a)  # ties
    labels[5:20, 0] = np.nan
    drawn = bootstrap._bootstrap(labels.astype(float), [a, b], patients, 5, 3)
    codes, of = np.unique(patients, return_inverse=True)
    picks = np.random.default_rng(3).integers(0, len(codes), (5, len(codes)))
    for i, pick in enumerate(picks):
        rows = np.concatenate([np.flatnonzero(of == one) for one in pick])
        for model, scores in enumerate((a, b)):
            slow = macro(per_finding(labels[rows], scores[rows]))
            assert drawn[model, i] == pytest.approx(slow, rel=1e-6)


def test_bootstrap_agrees_with_delong_where_both_apply() -> None:
    labels, a, b, _ = sample(studies=600, findings=1)
    delong = delong_paired(labels[:, 0], a[:, 0], b[:, 0])
    drawn = bootstrap.paired_bootstrap(labels, a, b, draws=2000, seed=1)
    assert drawn.difference.value == pytest.approx(delong.difference.value)
    assert drawn.difference.low == pytest.approx(delong.difference.low, abs=0.006)
    assert drawn.difference.high == pytest.approx(delong.difference.high, abs=0.006)
    again = bootstrap.paired_bootstrap(labels, a, b, draws=2000, seed=1)
    assert again == drawn
    assert bootstrap.paired_bootstrap(labels, a, a, draws=50).p == 1


def test_a_draw_without_a_rare_finding_scores_the_others() -> None:
    labels, scores, _, _ = sample(studies=60, findings=2)
    labels[:, 1] = 0
    labels[7, 1] = 1
    interval = bootstrap.bootstrap_macro(labels, scores, draws=200)
    assert not math.isnan(interval.low)
    assert interval.low <= interval.value <= interval.high


def test_patients_widen_the_interval_of_macro() -> None:
    labels, scores, _, _ = sample(studies=300)
    rows, who = np.tile(labels, (4, 1)), np.tile(np.arange(300), 4)
    single = bootstrap.bootstrap_macro(rows, np.tile(scores, (4, 1)), draws=500)
    clustered = bootstrap.bootstrap_macro(rows, np.tile(scores, (4, 1)), who, draws=500)
    assert clustered.high - clustered.low > 1.6 * (single.high - single.low)


def test_nothing_defined_gives_nothing() -> None:
    nothing = bootstrap.bootstrap_macro(np.zeros((4, 1)), np.arange(4.0)[:, None])
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.low)
    empty = bootstrap.paired_bootstrap(*(np.zeros((0, 2)) for _ in range(3)))
    assert math.isnan(empty.p)
    with pytest.raises(ValueError, match="patients"):
        bootstrap.bootstrap_macro(np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(2))


def test_groups_are_scored_by_the_mean_of_their_models() -> None:
    labels, a, b, patients = sample(studies=200)
    found = bootstrap.group_bootstrap(labels, [a, b], [b], patients, draws=300)
    pair = bootstrap.paired_bootstrap(labels, a, b, patients, draws=300)
    assert found.difference.value == pytest.approx(pair.difference.value / 2)
    assert found.difference.low == pytest.approx(pair.difference.low / 2)
