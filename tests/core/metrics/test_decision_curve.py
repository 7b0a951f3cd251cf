"""Decision curves, compared with counts and with a population of another prevalence."""

import numpy as np
import pytest

from core.metrics.decision_curve import THRESHOLDS, decision_curve


def drawn(studies: int, prevalence: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the probabilities that a calibrated model gives at this prevalence."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(studies) < prevalence).astype(float)
    evidence = generator.normal(size=studies) + 2 * labels
    ratio = np.exp(2 * evidence - 2) * prevalence / (1 - prevalence)
    return labels, ratio / (1 + ratio)


def test_net_benefit_is_that_of_vickers_and_elkin() -> None:
    labels, scores = drawn(500, 0.3)
    labels[:20] = np.nan
    known = ~np.isnan(labels)
    for point in decision_curve(labels, scores):
        treated = scores[known] >= point.threshold
        true, false = (np.mean(treated & (labels[known] == value)) for value in (1, 0))
        odds = point.threshold / (1 - point.threshold)
        assert point.model == pytest.approx(true - odds * false)
        share = labels[known].mean()
        assert point.treat_all == pytest.approx(share - odds * (1 - share))


def test_a_calibrated_model_is_better_than_treating_all_or_nobody() -> None:
    curve = decision_curve(*drawn(20_000, 0.2))
    assert tuple(point.threshold for point in curve) == THRESHOLDS
    assert all(point.model >= max(0, point.treat_all) - 0.002 for point in curve)
    middle = [point for point in curve if 0.1 <= point.threshold <= 0.5]
    assert all(point.model > max(0, point.treat_all) + 0.01 for point in middle)


def test_another_prevalence_gives_what_studies_of_that_prevalence_give() -> None:
    stated = decision_curve(*drawn(200_000, 0.3), prevalence=0.05)
    measured = decision_curve(*drawn(200_000, 0.05, seed=1))
    for one, other in zip(stated, measured, strict=True):
        assert one.model == pytest.approx(other.model, abs=0.002)
        assert one.treat_all == pytest.approx(other.treat_all, abs=0.01 / (1 - one.threshold))


def test_certain_probabilities_and_one_class() -> None:
    curve = decision_curve([1, 0], [1.0, 0.0], prevalence=0.1)
    assert [point.model for point in curve] == pytest.approx([0.1] * len(THRESHOLDS))
    assert decision_curve([0, 0], [0.1, 0.2]) == ()
