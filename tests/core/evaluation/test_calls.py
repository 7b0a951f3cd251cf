"""Calls respect the prevalence, and runs without information make none."""

import numpy as np
import pytest

from core.evaluation.calls import ODDS_RATIO, fit_caller
from core.metrics.calibration import fit_temperature
from core.metrics.operating_point import at_threshold, operating_point

STUDIES, PREVALENCE = 300, 0.08


def drawn(separation: float, seed: int, studies: int = STUDIES):
    """Labels of a rare finding, and overconfident probabilities with this distance of the means."""
    random = np.random.default_rng(seed)
    labels = (random.random(studies) < PREVALENCE).astype(float)
    scores = random.normal(size=studies) + separation * labels
    return labels, 1 / (1 + np.exp(-2 * scores))


def shares(separation: float) -> dict[str, float]:
    """Shares of test studies by call, and of the positives among those called present."""
    words: list[str] = []
    truth: list[float] = []
    for seed in range(60):
        caller = fit_caller(*drawn(separation, seed))
        assert caller is not None
        labels, probabilities = drawn(separation, 1000 + seed)
        words += [caller.word(each) for each in probabilities]
        truth += labels.tolist()
    called, positive = np.array(words), np.array(truth) == 1
    return {
        "present": float((called == "present").mean()),
        "absent": float((called == "absent").mean()),
        "ppv": float(positive[called == "present"].mean()),
        "missed": float(positive[called == "absent"].mean()),
    }


def test_scores_without_information_are_uncertain() -> None:
    found = shares(0.0)
    assert found["present"] < 0.01
    assert found["absent"] < 0.02
    # Youden's threshold calls a large part of the same studies.
    called = []
    for seed in range(60):
        labels, probabilities = drawn(0.0, seed)
        threshold = operating_point(labels, probabilities, "youden").threshold
        called.append((drawn(0.0, 1000 + seed)[1] >= threshold).mean())
    assert np.mean(called) > 0.3


def test_informative_scores_are_called_about_as_often_as_the_finding_occurs() -> None:
    found = shares(2.0)
    assert 0.04 < found["present"] < 0.1
    assert found["ppv"] > 0.4
    assert found["absent"] > 0.6
    assert found["missed"] < PREVALENCE / ODDS_RATIO


def test_the_odds_are_those_of_the_validation_split() -> None:
    labels, probabilities = drawn(1.5, 3, studies=20_000)
    assert fit_temperature(labels[:, None], probabilities[:, None]) > 1
    caller = fit_caller(labels, probabilities)
    assert caller is not None
    assert caller.prevalence == pytest.approx(PREVALENCE, abs=0.01)
    for low, high in ((0.5, 0.6), (0.9, 0.95)):
        near = (probabilities >= low) & (probabilities < high)
        middle = float(np.median(probabilities[near]))
        assert caller.calibrated(middle) == pytest.approx(labels[near].mean(), abs=0.03)


@pytest.mark.parametrize("labels", [np.zeros(20), np.ones(20), np.full(20, np.nan)])
def test_a_missing_class_allows_no_call(labels) -> None:
    assert fit_caller(labels, np.linspace(0, 1, 20)) is None


def test_constant_and_inverted_scores_are_uncertain() -> None:
    labels = np.array([1.0] * 5 + [0.0] * 45)
    for probabilities in (np.full(50, 0.9), np.where(labels == 1, 0.1, 0.8)):
        caller = fit_caller(labels, probabilities)
        assert caller is not None
        assert {caller.word(each) for each in (0.0, 0.1, 0.8, 0.9, 1.0)} == {"uncertain"}


def test_the_operating_point_of_the_prevalence_calls_as_many_as_there_are() -> None:
    labels, probabilities = drawn(1.0, 5)
    point = operating_point(labels, probabilities)
    assert (probabilities >= point.threshold).sum() == labels.sum()
    found = at_threshold(labels, probabilities, point.threshold)
    assert found.sensitivity == pytest.approx(point.sensitivity)
    tied = operating_point([1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5])
    assert (tied.sensitivity, tied.specificity) == (0.0, 1.0)
