"""Holm's correction."""

import math

import numpy as np

from core.metrics import intervals


def test_holm_by_hand() -> None:
    adjusted = intervals.holm([0.01, math.nan, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(adjusted, [0.03, math.nan, 0.06, 0.06, 0.02])
    assert intervals.holm([0.6, 0.9]).max() == 1
