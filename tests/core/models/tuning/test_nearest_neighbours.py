"""The head of nearest neighbours, compared with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from core.models.tuning.nearest_neighbours import EPSILON, NearestNeighboursHead

K, TEMPERATURE = 7, 0.3


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) * 3 + 1


def labels(unknown: float = 0.0) -> torch.Tensor:
    random = np.random.default_rng(1)
    values = (random.random((50, 2)) < 0.4).astype(np.float32)
    values[random.random((50, 2)) < unknown] = np.nan
    return torch.from_numpy(values)


def fitted(features: torch.Tensor, truth: torch.Tensor, k: int = K) -> NearestNeighboursHead:
    head = NearestNeighboursHead(6, truth.shape[1])
    head.fit(features, truth)
    head.choose(k, TEMPERATURE)
    return head


@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_probabilities_are_those_of_scikit_learn(features: torch.Tensor, unknown: float) -> None:
    truth = labels(unknown)
    head = fitted(features, truth)
    asked = torch.randn(20, 6, generator=torch.Generator().manual_seed(2)) * 3 + 1
    ours = torch.sigmoid(head(asked)).numpy()
    bank, queries = head.bank.numpy(), head.normalised(asked).numpy()
    for finding in range(2):
        known = ~np.isnan(truth[:, finding].numpy())
        # Of unit vectors, the squared distance is 2 − 2 cos.
        judge = KNeighborsClassifier(
            K, weights=lambda d: np.exp(-(d**2) / 2 / TEMPERATURE), algorithm="brute"
        ).fit(bank[known], truth[known, finding].numpy())
        theirs = judge.predict_proba(queries)[:, 1]
        assert np.abs(ours[:, finding] - theirs).max() < 1e-5


def test_a_high_temperature_counts_the_neighbours(features: torch.Tensor) -> None:
    head = fitted(features, labels())
    head.choose(5, 1e6)
    shares = torch.sigmoid(head(features)) * 5
    assert (shares - shares.round()).abs().max() < 1e-3


def test_a_finding_without_a_known_label_is_undecided(features: torch.Tensor) -> None:
    truth = labels()
    truth[:, 1] = torch.nan
    assert torch.equal(
        torch.sigmoid(fitted(features, truth)(features))[:, 1], torch.full((50,), 0.5)
    )


def test_fewer_studies_than_neighbours_all_vote(features: torch.Tensor) -> None:
    truth = torch.ones(3, 1)
    logits = fitted(features[:3], truth, k=500)(features)
    assert torch.sigmoid(logits).min() > 1 - 2 * EPSILON


def test_gradients_reach_the_features(features: torch.Tensor) -> None:
    asked = features[:2].clone().requires_grad_(True)
    fitted(features, labels(0.2))(asked).sum().backward()
    assert asked.grad is not None
    assert torch.isfinite(asked.grad).all()
