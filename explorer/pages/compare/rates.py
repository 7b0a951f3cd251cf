"""Charts of the tunings of the compared methods: validation AUROC over learning rate."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from core.config.run import RunSpec
from core.errors import CoreError
from core.experiments.tune.defaults import tunings_of
from core.experiments.tune.result import RatePoint, rate_points
from core.formatting import auroc
from core.models.tuning.registry import TUNING_METHODS
from core.workspace import Workspace
from explorer.figures.charts import Trace, chart, line
from explorer.figures.palette import OTHER, Style, method_style
from explorer.templates import error_message

DEFAULT, CHOSEN = Style(OTHER.colour, "", "diamond-open"), Style(OTHER.colour, "", "circle-open")
"""Marks around the points of the default and the chosen settings."""
MARK_SIZE = 18


def rate_charts(workspace: Workspace, specs: Sequence[RunSpec]) -> list[Markup]:
    """A chart for each tuning on the data, label fraction and backbone of runs.

    Args:
        workspace: Holds the tunings.
        specs: The runs; only their methods are drawn.
    """
    try:
        charts = []
        for name, methods in tunings_of(workspace, specs).items():
            points = rate_points(workspace, name)
            curves = {method: points[method] for method in methods if method in points}
            charts += [rate_chart(name, curves)] if curves else []
        return charts
    except CoreError as error:
        return [error_message(error)]


def rate_chart(name: str, curves: dict[str, tuple[RatePoint, ...]]) -> Markup:
    """Chart of validation AUROC over learning rate.

    Args:
        name: Name of the tuning.
        curves: The trials of each method.
    """
    traces = [trace for method, points in curves.items() for trace in _trials(method, points)]
    every = [point for points in curves.values() for point in points]
    traces += [
        *_marks("default settings", [point for point in every if point.default], DEFAULT),
        *_marks("chosen", [point for point in every if point.chosen], CHOSEN),
    ]
    title = "Validation AUROC over learning rate"
    chosen = [
        f"{TUNING_METHODS[method].title} has {auroc(point.auroc)} at its chosen rate {point.rate:g}"
        for method, points in curves.items()
        for point in points
        if point.chosen
    ]
    return chart(
        traces,
        title=f"{title}, {name}",
        description=f"{title}: {'; '.join(chosen) or 'nothing is chosen yet'}",
        x="learning rate (logarithmic)",
        xaxis={"type": "log", "dtick": "D2", "tickformat": "~g"},
        yaxis={"hoverformat": ".3f"},
        legend={"orientation": "h"},
        height=310,
    )


def _trials(method: str, points: Sequence[RatePoint]) -> list[Trace]:
    """The completed trials of a method, with a line, and those that were stopped early."""
    style, title = method_style(method), TUNING_METHODS[method].title
    completed = [point for point in points if point.complete]
    stopped = [point for point in points if not point.complete]
    traces = [
        _trace(title, completed, style, mode="lines+markers", legendgroup=method),
        _trace(f"{title}, stopped early", stopped, style, mode="markers", legendgroup=method),
    ]
    traces[1]["marker"]["symbol"] = f"{style.marker}-open"
    return [trace for trace in traces if trace["x"]]


def _marks(name: str, points: Sequence[RatePoint], style: Style) -> list[Trace]:
    """Empty marks around points; none without points."""
    trace = _trace(name, points, style, mode="markers")
    trace["marker"] |= {"size": MARK_SIZE, "line": {"width": 2}}
    return [trace | {"hoverinfo": "skip"}] if points else []


def _trace(name: str, points: Sequence[RatePoint], style: Style, **more: str) -> Trace:
    texts = [
        f"{name}{', default settings' * point.default}{', chosen' * point.chosen}: learning rate "
        f"{point.rate:g}, validation AUROC {auroc(point.auroc)}"
        for point in points
    ]
    rates, values = [point.rate for point in points], [point.auroc for point in points]
    return line(name, rates, values, style, hoverinfo="text", hovertext=texts, **more)
