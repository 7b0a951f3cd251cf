"""Numbers and times as users see them."""

import pytest

from core import formatting


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (80, "1 min 20 s"),
        (601, "10 min"),
        (7500, "2 h 5 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_duration(seconds: float | None, words: str) -> None:
    assert formatting.duration(seconds) == words


def test_numbers() -> None:
    assert formatting.auroc(0.8064) == "0.806"
    assert formatting.auroc(None) == formatting.auroc(float("nan")) == "–"
    assert formatting.points(0.0182) == "+1.8"
    assert formatting.points(-0.004) == "−0.4"
    assert formatting.number(159758) == "159,758"
    assert formatting.share(0.00186) == "0.186%"
    assert formatting.share(1) == "100%"
    assert formatting.percent(0.716) == "72%"


def test_a_difference_that_is_rounded_to_zero_has_no_sign() -> None:
    assert formatting.points(0.0004) == formatting.points(-0.0004) == "0.0"
