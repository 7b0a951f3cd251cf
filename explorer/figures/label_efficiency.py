"""AUROC against the label fraction, one curve with a band per method; and reliability curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from markupsafe import Markup

from core.metrics.calibration import ReliabilityBin
from core.metrics.label_efficiency import Curve, percent
from explorer.figures.markers import marker
from explorer.figures.palette import Style, method_style
from explorer.figures.plot import CHARACTER_WIDTH, LINE_HEIGHT, Plane, figure, ticks

NAMES = {"lora": "LoRA", "full": "full fine-tuning", "linear": "linear probe"}


def efficiency(
    curves: Sequence[Curve], *, title: str, named: bool = False, width: int = 360, height: int = 230
) -> Markup:
    """Draw label-efficiency curves.

    Args:
        curves: One per method, each with at least one level.
        title: Heading.
        named: Write the methods' names at the ends of their curves, in place of a legend.
        width: Width of the drawing's coordinates; the page scales it.
        height: Height of the drawing's coordinates.

    Returns:
        HTML of a ``figure``.
    """
    levels = [level for curve in curves for level in curve.levels]
    ends = [
        end
        for level in levels
        for end in (level.auroc.value, level.auroc.low, level.auroc.high)
        if not math.isnan(end)
    ]
    low, high = max(0.0, min(ends) - 0.01), min(1.0, max(ends) + 0.01)
    room = CHARACTER_WIDTH * max(len(_name(curve)) for curve in curves) if named else 0.0
    fractions = sorted({level.fraction for level in levels})
    first = math.log10(fractions[0]) - 0.15
    plane = Plane(44, width - 14 - room, 10, height - 40, first, 0.15, low, high)
    marks = [(math.log10(fraction), percent(fraction)) for fraction in fractions]
    values = "; ".join(
        f"{_name(curve)} "
        + ", ".join(f"{level.auroc.value:.3f} with {percent(level.fraction)}"
                    for level in curve.levels)
        for curve in curves
    )  # fmt: skip
    return figure(
        plane.grid(),
        plane.horizontal_axis(marks, "share of the labels"),
        *(_band(curve, plane) for curve in curves),
        *(_line(curve, plane) for curve in curves),
        *(_end_names(curves, plane) if named else []),
        title=title,
        description=f"{title}: {values}",
        width=width,
        height=height,
    )


def reliability(
    bins: Sequence[ReliabilityBin], style: Style, *, title: str, width: int = 300, height: int = 260
) -> Markup:
    """Draw a reliability curve: observed share of positives against the predicted probability.

    Args:
        bins: Bins of studies.
        style: Style of the run's method.
        title: Heading.
        width: Width of the drawing's coordinates; the page scales it.
        height: Height of the drawing's coordinates.

    Returns:
        HTML of a ``figure``.
    """
    top = max([0.1, *(max(group.observed.high, group.predicted) for group in bins)])
    end = min(1.0, top * 1.05)
    plane = Plane(44, width - 12, 10, height - 40, 0.0, end, 0.0, end)
    marks = [(value, f"{value:g}") for value in ticks(0.0, end)]
    diagonal = (
        f'<line class="cxr-axis" stroke-dasharray="4 4" x1="{plane.x(0):.1f}" '
        f'x2="{plane.x(end):.1f}" y1="{plane.y(0):.1f}" y2="{plane.y(end):.1f}"/>'
    )
    return figure(
        plane.grid(),
        plane.horizontal_axis(marks, "predicted probability"),
        diagonal,
        *(_bin(group, style, plane) for group in bins),
        title=title,
        description=f"{title}: predicted against observed in {len(bins)} groups of equal size",
        width=width,
        height=height,
    )


def _bin(group: ReliabilityBin, style: Style, plane: Plane) -> str:
    x, observed = plane.x(group.predicted), group.observed
    text = (
        f"predicted {group.predicted:.3f}, observed {observed.value:.3f} "
        f"({observed.low:.3f} to {observed.high:.3f}) in {group.studies:,} studies"
    )
    return (
        f'<g><title>{escape(text)}</title><line x1="{x:.1f}" x2="{x:.1f}" '
        f'y1="{plane.y(observed.low):.1f}" y2="{plane.y(observed.high):.1f}" '
        f'stroke="{style.colour}" stroke-width="2" opacity=".6"/>'
        f"{marker(style, x, plane.y(observed.value), 4)}</g>"
    )


def _band(curve: Curve, plane: Plane) -> str:
    known = [level for level in curve.levels if not math.isnan(level.auroc.low)]
    if len(known) < 2:
        return ""
    upper = [(plane.x(math.log10(level.fraction)), plane.y(level.auroc.high)) for level in known]
    lower = [(plane.x(math.log10(level.fraction)), plane.y(level.auroc.low)) for level in known]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *reversed(lower)])
    return f'<polygon points="{points}" fill="{method_style(curve.method).colour}" opacity=".16"/>'


def _line(curve: Curve, plane: Plane) -> str:
    style = method_style(curve.method)
    points, marks = [], []
    for level in curve.levels:
        x, y = plane.x(math.log10(level.fraction)), plane.y(level.auroc.value)
        text = (
            f"{_name(curve)} with {percent(level.fraction)} of the labels: {level.auroc.value:.3f}"
        )
        points.append(f"{x:.1f},{y:.1f}")
        marks.append(f"<g><title>{escape(text)}</title>{marker(style, x, y)}</g>")
    return (
        f'<polyline points="{" ".join(points)}" fill="none" stroke="{style.colour}" '
        f'stroke-width="2" stroke-dasharray="{style.dasharray}"/>{"".join(marks)}'
    )


def _end_names(curves: Sequence[Curve], plane: Plane) -> list[str]:
    """The methods' names at the ends of their curves, pushed apart where they would overlap."""
    texts, last = [], -math.inf
    for curve in sorted(curves, key=lambda curve: -curve.levels[-1].auroc.value):
        last = max(plane.y(curve.levels[-1].auroc.value) + 4, last + LINE_HEIGHT)
        x = plane.x(math.log10(curve.levels[-1].fraction)) + 9
        colour = method_style(curve.method).colour
        texts.append(
            f'<text x="{x:.1f}" y="{last:.1f}" style="fill:{colour}">{escape(_name(curve))}</text>'
        )
    return texts


def _name(curve: Curve) -> str:
    return NAMES.get(curve.method, curve.method)
