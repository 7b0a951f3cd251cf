"""Logistic regression, ridge and the choice of neighbours, compared with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from core.errors import DataError, Stopped
from core.models.tuning.nearest_neighbours import NearestNeighboursHead
from core.training.closed_form.logistic import INVERSE_PENALTIES, fit_logistic
from core.training.closed_form.neighbours import NEIGHBOURS, TEMPERATURES, choose_neighbours
from core.training.closed_form.ridge import PENALTIES, fit_ridge, platt_scaling
from core.training.closed_form.selection import Studies, best, mean_auroc

FEATURES, FINDINGS = 8, 3


def quiet(done: int, total: int) -> None:
    assert 0 <= done < total


def studies(count: int, seed: int, unknown: float = 0.0) -> Studies:
    """Studies whose labels follow the first features; the features have several scales."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, FEATURES)) * np.logspace(-2, 2, FEATURES) + 3
    standard = (features - 3) / np.logspace(-2, 2, FEATURES)
    labels = standard[:, :FINDINGS] + random.normal(size=(count, FINDINGS)) > 0.7
    values = labels.astype(np.float32)
    values[random.random(values.shape) < unknown] = np.nan
    return Studies(features.astype(np.float32), values)


@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_logistic_regression_is_that_of_scikit_learn(unknown: float) -> None:
    train, val = studies(300, 0, unknown), studies(200, 1)
    fit, aurocs = fit_logistic(train, val, quiet)
    assert tuple(aurocs) == INVERSE_PENALTIES
    train = Studies(train.features.astype(np.float64), train.labels)
    scaler = StandardScaler().fit(train.features)
    for finding in range(FINDINGS):
        known = ~np.isnan(train.labels[:, finding])
        judge = LogisticRegression(C=best(aurocs), tol=1e-10, max_iter=10_000).fit(
            scaler.transform(train.features[known]), train.labels[known, finding]
        )
        theirs = judge.predict_proba(scaler.transform(val.features))[:, 1]
        ours = 1 / (1 + np.exp(-fit.scores(val.features)[:, finding]))
        assert np.abs(ours - theirs).max() < 1e-5
    assert aurocs[best(aurocs)] == pytest.approx(mean_auroc(val.labels, fit.scores(val.features)))


def test_the_penalty_is_the_best_on_validation() -> None:
    assert best({1.0: 0.5, 2.0: 0.7, 3.0: 0.7, 4.0: float("nan")}) == 2.0
    assert best({1.0: float("nan"), 2.0: 0.1}) == 2.0
    train = studies(60, 0)
    # With the labels of validation reversed, the least informed model is best.
    val = studies(200, 1)
    turned = Studies(val.features, 1 - val.labels)
    assert best(fit_logistic(train, turned, quiet)[1]) <= best(fit_logistic(train, val, quiet)[1])


def test_a_finding_with_one_class_gets_its_prevalence() -> None:
    train, val = studies(100, 0), studies(100, 1)
    train.labels[:, 1] = 0
    train.labels[:, 2] = np.nan
    fit, _ = fit_logistic(train, val, quiet)
    scores = fit.scores(val.features)
    np.testing.assert_allclose(scores[:, 1], np.log(0.5 / 100.5))
    np.testing.assert_array_equal(scores[:, 2], 0)
    assert scores[:, 0].std() > 0


@pytest.mark.parametrize("fit", [fit_logistic, fit_ridge])
def test_no_finding_with_both_classes_is_an_error(fit) -> None:
    train = studies(20, 0)
    train.labels[:] = (1, 0, np.nan)
    with pytest.raises(
        DataError, match="both positive and negative studies among the 20"
    ) as caught:
        fit(train, studies(20, 1), quiet)
    assert caught.value.field == "data.label_fraction"


@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_ridge_is_that_of_scikit_learn(unknown: float) -> None:
    train, val = studies(80, 0, unknown), studies(60, 1)
    fit, aurocs = fit_ridge(train, val, quiet)
    assert tuple(aurocs) == PENALTIES
    for finding in range(FINDINGS):
        known = ~np.isnan(train.labels[:, finding])
        judge = Ridge(best(aurocs)).fit(train.features[known], train.labels[known, finding])
        theirs = judge.predict(val.features)
        assert np.abs(fit.scores(val.features)[:, finding] - theirs).max() < 1e-5
    assert max(aurocs.values()) == mean_auroc(val.labels, fit.scores(val.features))


def test_platt_scaling_keeps_the_order_and_calibrates() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(4000, 1)) * 2 - 1
    labels = (random.random((4000, 1)) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    slope, shift = platt_scaling(0.1 * logits + 7, labels)
    np.testing.assert_allclose(slope * (0.1 * logits + 7) + shift, logits, atol=0.4)
    # Scores of the wrong order, and of one class, are shifted to the prevalence only.
    for truth in (1 - labels, np.zeros_like(labels)):
        slope, shift = platt_scaling(logits, truth)
        assert slope[0] == 1
        prevalence = (truth.sum() + 0.5) / (len(truth) - truth.sum() + 0.5)
        assert (logits + shift).mean() == pytest.approx(np.log(prevalence), abs=1e-6)


def test_the_best_neighbours_are_chosen() -> None:
    train, val = studies(150, 0), studies(300, 1)
    head = NearestNeighboursHead(FEATURES, FINDINGS)
    head.fit(torch.from_numpy(train.features), torch.from_numpy(train.labels))
    aurocs = choose_neighbours(head, val, quiet)
    counts = [k for k in NEIGHBOURS if k < 150] + [150]
    assert list(aurocs) == [(k, t) for k in counts for t in TEMPERATURES]
    k, temperature = best(aurocs)
    assert (int(head.k), float(head.temperature)) == (k, pytest.approx(temperature))
    for choice in ((5, 0.03), (100, 1.0), (k, temperature)):
        head.choose(*choice)
        scores: NDArray[np.float32] = head(torch.from_numpy(val.features)).numpy()
        assert mean_auroc(val.labels, scores) == pytest.approx(aurocs[choice], abs=1e-6)


def test_a_stop_ends_the_fit() -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        fit_logistic(studies(40, 0), studies(40, 1), stop)
