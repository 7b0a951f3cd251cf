"""The learning-rate schedule."""

import itertools
from typing import Any

import pytest

from core.training import schedule


def rate(epoch: float, **changes: float) -> float:
    settings: dict[str, Any] = {"lr": 1.0, "min_lr": 0.1, "warmup_epochs": 2, "epochs": 12}
    return schedule.learning_rate(epoch, **settings | changes)


def test_the_rate_rises_in_a_line_and_falls_as_half_a_cosine() -> None:
    assert [rate(0), rate(0.5), rate(1), rate(2)] == pytest.approx([0, 0.25, 0.5, 1])
    assert rate(7) == pytest.approx(0.55)
    assert rate(12) == pytest.approx(0.1)
    assert rate(0, warmup_epochs=0) == 1
    falling = [rate(2 + i / 10) for i in range(101)]
    assert all(a > b for a, b in itertools.pairwise(falling))
