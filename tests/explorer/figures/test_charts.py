"""Charts as Plotly's JSON: valid figures, curves of runs, means over seeds, intervals."""

import math
from typing import Any

import pytest

from core.metrics.intervals import Interval
from core.runs.run import MetricRow
from explorer.figures.charts import Trace, chart, curve, line, mean_over_seeds, with_band, with_bars
from explorer.figures.palette import METHODS
from tests.support.figures import figures

LORA = METHODS["lora"]


def rows(*values: float) -> list[MetricRow]:
    return [MetricRow("val/auroc", value, i, 10 * i, i) for i, value in enumerate(values, 1)]


def spec_of(traces: list[Trace]) -> dict[str, Any]:
    html = chart(traces, title='<img src="x">', description="words", x="epochs")
    assert "<img" not in html
    assert 'aria-label="words"' in html
    return figures(html)[0]


@pytest.mark.parametrize("style", METHODS.values(), ids=METHODS)
def test_every_style_is_one_of_plotly(style: Any) -> None:
    trace = spec_of([line("mean", [1, 2], [0.5, 0.6], style)])["data"][0]
    assert trace["line"]["color"] == trace["marker"]["color"] == style.colour


def test_a_curve_has_its_steps_and_leaves_out_what_is_no_number() -> None:
    trace = spec_of(curve("mean", rows(0.6, math.nan, 0.7), LORA, 16))["data"][0]
    assert (trace["x"], trace["y"]) == ([1, 3], [0.6, 0.7])
    assert trace["meta"] == {"step": [10, 30], "batch": 16, "thin": False}
    assert curve("mean", rows(math.nan), LORA, 16) == []
    assert spec_of(curve("mean", rows(0.6), LORA, 16))["data"][0]["mode"] == "markers"


def test_seeds_become_a_mean_with_a_band_where_all_have_a_value() -> None:
    seeds = [rows(0.6, 0.8, 0.9), rows(0.5, 0.6)]
    low, high, mean = spec_of(mean_over_seeds("2 seeds", seeds, LORA, 16))["data"]
    assert (low["y"], high["y"], mean["y"]) == ([0.5, 0.6], [0.6, 0.8], [0.55, 0.7])
    assert high["fill"] == "tonexty"
    assert mean["meta"]["step"] == low["meta"]["step"] == [10, 20]
    assert mean_over_seeds("2 seeds", [rows(0.6), []], LORA, 16) == []


def test_intervals_are_bars_or_a_band_and_unknown_ones_are_not_drawn() -> None:
    trace = line("AUROC", [1, 2, 3], [0.7, 0.8, 0.9], LORA)
    bare = Interval(0.8, math.nan, math.nan)
    known = [Interval(0.7, 0.5, 0.75), bare, Interval(0.9, 0.8, 0.95)]
    bars = spec_of([with_bars(trace, known)])["data"][0]["error_y"]
    assert bars["arrayminus"] == pytest.approx([0.2, 0, 0.1])
    low, high, _ = spec_of(with_band(trace, known))["data"]
    assert (low["x"], low["y"], high["y"]) == ([1, 3], [0.5, 0.8], [0.75, 0.95])
    assert with_band(trace, [known[0], bare, bare]) == [trace]


def test_a_chart_without_values_says_so() -> None:
    assert "no values yet" in chart([], title="Loss", description="", x="epochs")
