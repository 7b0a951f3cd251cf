"""Figure of a tuning: validation AUROC over learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.experiments.tune.result import RatePoint
from core.models.tuning.registry import TUNING_METHODS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = "osDv^Ph"
RING = "#6B7280"
"""Colour of the marks around the default and the chosen settings."""
STYLE: Any = {"font.size": 8.5, "axes.spines.top": False, "axes.spines.right": False}


def figure(curves: Mapping[str, Sequence[RatePoint]], colours: Mapping[str, str]) -> Figure:
    """Validation AUROC over learning rate, with a line through the completed trials of a method.

    Args:
        curves: The trials of each method, as from ``result.rate_points``.
        colours: Colour of each method, such as that of ``explorer.figures.palette``.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(7.0, 3.4), layout="constrained")
        axes = drawn.add_subplot()
        axes.set(xscale="log", xlabel="learning rate", ylabel="validation AUROC (best epoch)")
        for i, (method, points) in enumerate(curves.items()):
            look: Any = {"color": colours[method], "marker": MARKERS[i % len(MARKERS)]}
            completed = [point for point in points if point.complete]
            stopped = [point for point in points if not point.complete]
            axes.plot(*_places(completed), "-", linewidth=1, label=TUNING_METHODS[method].title,
                      **look)  # fmt: skip
            axes.plot(*_places(stopped), linestyle="", markerfacecolor="none", **look)
        every = [point for points in curves.values() for point in points]
        for name, marker, marked in (
            ("default settings", "D", [point for point in every if point.default]),
            ("chosen", "o", [point for point in every if point.chosen]),
        ):
            axes.plot(*_places(marked), marker, color=RING, markerfacecolor="none", markersize=13,
                      label=name)  # fmt: skip
        if not all(point.complete for point in every):
            axes.plot([], [], "o", color=RING, markerfacecolor="none", label="stopped early")
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), labelspacing=1.1)
    return drawn


def _places(points: Sequence[RatePoint]) -> tuple[list[float], list[float]]:
    return [point.rate for point in points], [point.auroc for point in points]
