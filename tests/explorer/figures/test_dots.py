"""Rows of dots with intervals, and the marks of their axis."""

import math

import pytest

from core.metrics.intervals import Interval
from explorer.figures import dots
from explorer.figures.dots import Dot, Scale
from explorer.figures.palette import method_style

LORA = method_style("lora")
SCALE = Scale(0.0, 1.0, zero=0.5)
UNDEFINED = Interval(math.nan, math.nan, math.nan)


def test_a_dot_is_at_its_value_with_its_interval() -> None:
    html = dots.dots([Dot(Interval(0.75, 0.5, 0.9), LORA, "a < b")], SCALE)
    assert '<b style="left:75.00%">' in html
    assert f"left:50.00%;width:40.00%;background:{LORA.colour}" in html
    assert 'aria-label="a &lt; b"' in html
    assert "cxr-zero" in html


def test_a_wider_interval_is_drawn_thin_and_missing_bounds_are_not_drawn() -> None:
    wider = Dot(Interval(0.5, 0.4, 0.6), LORA, "both", wider=Interval(0.5, 0.3, 0.7))
    html = dots.dots([wider], SCALE)
    assert html.index("cxr-thin-span") < html.index('"cxr-span"')
    bare = dots.dots([Dot(Interval(0.5, math.nan, math.nan), LORA, "bare")], SCALE)
    assert "cxr-span" not in bare
    assert "<b " in bare


def test_undefined_values_are_named() -> None:
    undefined = Dot(UNDEFINED, LORA, "Hernia")
    assert "one class only" in dots.dots([undefined, undefined], SCALE)
    mixed = dots.dots([Dot(Interval(0.5, 0.4, 0.6), LORA, "Edema"), undefined], SCALE)
    assert ">not defined<" in mixed
    assert "one class only" not in mixed


@pytest.mark.parametrize(("value", "text"), [(-0.012, "−1.2"), (-0.0001, "0.0"), (0.03, "3.0")])
def test_the_axis_has_true_minus_signs(value: float, text: str) -> None:
    assert Scale(-1, 1, factor=100, decimals=1).text(value) == text


def test_a_scale_holds_all_intervals_and_its_zero() -> None:
    scale = Scale.around([Interval(0.02, 0.01, 0.05), UNDEFINED], zero=0.0)
    assert scale.low < 0.0 < 0.05 < scale.high
    assert Scale.around([], zero=3.0) == Scale(-0.04, 1.04, zero=3.0)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.61, 0.79, [0.65, 0.7, 0.75])],
)
def test_marks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert Scale(low, high).marks == pytest.approx(expected)
