import itertools
import json
import re
from html import unescape
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.figures.curves import MOST_POINTS, Curve, chart, spark, swatch
from explorer.figures.palette import METHODS
from explorer.figures.plot import LINE_HEIGHT, ticks


def svg_of(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", html, re.S).group())  # type: ignore[union-attr]


def points_of(line: ElementTree.Element) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in line.attrib["points"].split())
    return [(float(x), float(y)) for x, y in pairs]


def draw(*curves: Curve, epochs: float = 10) -> ElementTree.Element:
    return svg_of(chart(curves, title="AUROC", description="mean", epochs=epochs))


def test_a_curve_rises_where_its_values_rise() -> None:
    svg = draw(Curve("mean", [1, 2, 3], [0.6, 0.8, 0.7], METHODS["lora"]))
    places = points_of(svg.find("polyline"))  # type: ignore[arg-type]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    heights = [y for _, y in places]
    assert heights[1] < heights[2] < heights[0]


def test_equal_steps_of_epochs_are_equal_widths() -> None:
    svg = draw(Curve("mean", [0, 5, 10], [0.5, 0.6, 0.7], METHODS["lora"]), epochs=20)
    (a, _), (b, _), (c, _) = points_of(svg.find("polyline"))  # type: ignore[arg-type]
    assert b - a == pytest.approx(c - b, abs=0.11)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_every_point_lies_on_the_drawing(values: list[float]) -> None:
    svg = draw(Curve("mean", list(range(len(values))), values, METHODS["full"]))
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    for x, y in points_of(svg.find("polyline")):  # type: ignore[arg-type]
        assert 0 <= x <= width
        assert 0 <= y <= height


def test_a_single_value_is_a_dot() -> None:
    assert draw(Curve("mean", [1], [0.6], METHODS["lora"])).find("circle") is not None


def test_a_chart_without_values_says_so() -> None:
    assert "no values yet" in chart([], title="Loss", description="", epochs=3)


def test_a_long_curve_is_averaged_and_keeps_its_mean() -> None:
    values = [float(i % 7) for i in range(7 * MOST_POINTS)]
    svg = draw(Curve("loss", list(range(len(values))), values, METHODS["lora"]))
    series = json.loads(svg.attrib["data-series"])["series"][0]
    assert len(series["y"]) == MOST_POINTS
    assert sum(series["y"]) / MOST_POINTS == pytest.approx(sum(values) / len(values), abs=1e-4)


def test_names_do_not_overlap() -> None:
    curves = [Curve(f"F{i}", [1, 2], [0.7, 0.7 + i / 1000], None, f"F{i}") for i in range(14)]
    heights = sorted(
        float(one.attrib["y"]) for one in draw(*curves).iter("text")
        if "cxr-end" in one.attrib.get("class", "")
    )  # fmt: skip
    assert len(heights) == 14
    assert min(b - a for a, b in itertools.pairwise(heights)) >= LINE_HEIGHT - 0.11


def test_names_cannot_break_the_page() -> None:
    name = '<img src=x onerror="1">'
    html = chart([Curve(name, [1, 2], [0, 1], None, name)], title=name, description=name, epochs=2)
    assert "<img" not in html
    assert (
        json.loads(unescape(re.search(r'data-series="([^"]*)"', html).group(1)))[  # type: ignore[union-attr]
            "series"
        ][0]["name"]
        == name
    )


def test_a_spark_marks_its_best() -> None:
    svg = svg_of(spark([0.5, 0.9, 0.7], METHODS["lora"]))
    best = svg.find("circle")
    assert best is not None
    assert min(y for _, y in points_of(svg.find("polyline"))) == float(best.attrib["cy"])  # type: ignore[arg-type]
    assert "best 0.900" in svg.attrib["aria-label"]
    assert spark([0.5], METHODS["lora"]) == ""


def test_a_swatch_has_the_line_style() -> None:
    assert METHODS["full"].dasharray in swatch(METHODS["full"])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 12, [0, 2.5, 5, 7.5, 10]),
        (0.61, 0.79, [0.65, 0.7, 0.75]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)
