"""Charts as Plotly's JSON; ``explorer.js`` draws them in the browser with Plotly's script.

The page adds what depends on the reader: colours of the theme, smoothing, the horizontal axis
(epochs, steps or images), a logarithmic loss, and downloads as PNG, SVG and CSV.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from core.metrics.intervals import Interval
from core.runs.run import MetricRow
from explorer.figures.palette import Style
from explorer.templates import render_macro

Trace = dict[str, Any]
"""One curve or set of points, as in Plotly's reference of traces."""
LINE_WIDTH = 2.2


def chart(
    traces: Sequence[Trace],
    *,
    title: str,
    description: str,
    x: str,
    height: int = 280,
    **layout: Any,
) -> Markup:
    """A chart as an HTML ``figure``.

    Args:
        traces: What is drawn; without any, the figure contains the words "no values yet".
        title: Heading.
        description: Alternative text.
        x: Title of the horizontal axis.
        height: Height in pixels.
        **layout: Further keys of Plotly's layout, such as ``yaxis={"range": [0, 1]}``.
    """
    # The same names keep zoom and hidden curves when the values change.
    revision = "|".join([title, *(trace["name"] for trace in traces)])
    axis = {**layout.pop("xaxis", {}), "title": {"text": x}}
    figure = {"data": traces, "layout": {"uirevision": revision, "xaxis": axis, **layout}}
    return render_macro(
        "figures/chart.html.j2",
        "chart",
        figure=json.dumps(figure, allow_nan=False, separators=(",", ":")) if traces else "",
        title=title,
        description=description,
        height=height,
    )


def line(name: str, x: Sequence[float], y: Sequence[float], style: Style, **more: Any) -> Trace:
    """A line through points in a style's colour and dashes.

    Args:
        name: Name in the legend and under the pointer.
        x: Horizontal positions.
        y: Values, of the same length.
        style: Colour, dashes, and shape of the points where ``mode`` shows them.
        **more: Further keys of the trace.
    """
    dash = ",".join(f"{length}px" for length in style.dasharray.split()) or "solid"
    return {
        "name": name,
        "x": list(x),
        "y": [round(value, 5) for value in y],
        "mode": "lines" if len(x) > 1 else "markers",  # a line of one point is invisible
        "line": {"color": style.colour, "width": LINE_WIDTH, "dash": dash},
        "marker": {"color": style.colour, "symbol": style.marker, "size": 8},
        **more,
    }


def curve(
    name: str, rows: Sequence[MetricRow], style: Style, batch_size: int, *, thin: bool = False
) -> list[Trace]:
    """A recorded curve over epochs, which the page also shows over steps or images.

    Args:
        name: Name in the legend and under the pointer.
        rows: Its values; those that are not a number are left out.
        style: Colour and dashes.
        batch_size: Images per step.
        thin: Draw it thin; while the pointer is on the row of a finding of this name, thick.

    Returns:
        The trace; none without values.
    """
    known = [row for row in rows if not math.isnan(row.value)]
    if not known:
        return []
    meta = {"step": [row.step for row in known], "batch": batch_size, "thin": thin}
    epochs = [round(row.epoch, 3) for row in known]
    trace = line(name, epochs, [row.value for row in known], style, meta=meta)
    if thin:
        trace["line"]["width"] = 1
    return [trace]


def mean_over_seeds(
    name: str, runs: Sequence[Sequence[MetricRow]], style: Style, batch_size: int
) -> list[Trace]:
    """The mean of runs that differ only in the seed, with a band from the lowest to the highest.

    Args:
        name: Name in the legend.
        runs: The same curve of each run; the mean is taken where all have a value.
        style: Colour and dashes.
        batch_size: Images per step.
    """
    by_step = defaultdict(list)
    for row in (row for rows in runs for row in rows if not math.isnan(row.value)):
        by_step[row.step].append(row)
    common = [rows for _, rows in sorted(by_step.items()) if len(rows) == len(runs)]
    if not common:
        return []
    values = [[row.value for row in rows] for rows in common]
    epochs = [rows[0].epoch for rows in common]
    other_axes = {"step": [rows[0].step for rows in common], "batch": batch_size}
    mean = line(name, epochs, [sum(each) / len(each) for each in values], style, meta=other_axes)
    low, high = [min(each) for each in values], [max(each) for each in values]
    return [*_band(mean, low, high), {**mean, "legendgroup": name}]


def with_bars(trace: Trace, intervals: Sequence[Interval]) -> Trace:
    """A trace with its intervals as vertical bars.

    Args:
        trace: Its ``y`` are the values of the intervals.
        intervals: One for each point; NaN bounds draw no bar.
    """
    known = [each if each.low == each.low else Interval(0, 0, 0) for each in intervals]
    bars = {
        "array": [each.high - each.value for each in known],
        "arrayminus": [each.value - each.low for each in known],
        "thickness": 2,
        "width": 0,
        "color": trace["line"]["color"],
    }
    return {**trace, "error_y": bars}


def with_band(trace: Trace, intervals: Sequence[Interval]) -> list[Trace]:
    """A trace with its intervals as a band, if at least two are known; arguments as before."""
    known = [i for i, each in enumerate(intervals) if each.low == each.low]
    if len(known) < 2:
        return [trace]
    points = {**trace, "x": [trace["x"][i] for i in known]}
    low, high = [intervals[i].low for i in known], [intervals[i].high for i in known]
    return [*_band(points, low, high), {**trace, "legendgroup": trace["name"]}]


def _band(trace: Trace, low: Sequence[float], high: Sequence[float]) -> list[Trace]:
    """Two invisible lines, filled between; the legend hides them together with the trace."""
    colour = trace["line"]["color"]
    levels = ",".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
    shared = {"mode": "lines", "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
    shared |= {key: trace[key] for key in ("x", "meta") if key in trace}
    shared["legendgroup"] = trace["name"]
    fill = {"fill": "tonexty", "fillcolor": f"rgba({levels},0.16)"}
    lower = {**shared, "name": f"{trace['name']}, low", "y": [round(end, 5) for end in low]}
    upper = {**shared, "name": f"{trace['name']}, high", "y": [round(end, 5) for end in high]}
    return [lower, {**upper, **fill}]
