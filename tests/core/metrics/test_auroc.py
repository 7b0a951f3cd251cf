"""AUROC and average precision, compared with scikit-learn and with all pairs of studies."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from core.metrics import delong
from core.metrics.auroc import auroc, average_precision, macro, per_finding


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 60), st.integers(2, 9))
def test_auroc_is_the_share_of_pairs_won(seed: int, studies: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, studies)
    scores = generator.integers(0, levels, studies).astype(np.float32)
    if labels.min() == labels.max():
        assert math.isnan(auroc(labels, scores))
        return
    gaps = scores[labels == 1][:, None] - scores[labels == 0][None]
    assert auroc(labels, scores) == pytest.approx(((gaps > 0) + 0.5 * (gaps == 0)).mean())
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    assert average_precision(labels, scores) == pytest.approx(
        average_precision_score(labels, scores)
    )


def test_unknown_labels_are_left_out_and_one_class_is_not_defined() -> None:
    labels = np.array([[1, 0, np.nan], [0, 0, 1], [np.nan, 0, 0], [1, 0, 1]])
    scores = np.array([[0.9, 0.1, 0.5], [0.2, 0.9, 0.8], [0.99, 0.3, 0.1], [0.1, 0.4, 0.7]])
    each = per_finding(labels, scores)
    assert each[0] == 0.5
    assert math.isnan(each[1])
    assert each[2] == 1.0
    assert macro(each) == 0.75
    assert math.isnan(macro([math.nan, math.nan]))
    assert math.isnan(average_precision([0, 0], [0.1, 0.2]))


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="score is NaN"):
        auroc([0, 1], [0.1, math.nan])
    with pytest.raises(ValueError, match=r"1, 0 or NaN"):
        auroc([0, 2], [0.1, 0.2])
    with pytest.raises(ValueError, match="both be"):
        per_finding(np.zeros((3, 2)), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="patients"):
        delong.placements([0, 1, 1], [[0.1, 0.2, 0.3]], ["P1", "P2"])
