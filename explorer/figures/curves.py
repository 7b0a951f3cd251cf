"""Learning curves over epochs, and small pieces of a curve for tables and legends.

The colours of curves come from ``palette``. A chart carries its values in ``data-series``, from
which the page shows those under the pointer.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from markupsafe import Markup

from explorer.figures.palette import Style
from explorer.figures.plot import CHARACTER_WIDTH, LINE_HEIGHT, Plane, figure, fragment, ticks

MOST_POINTS = 240
"""A curve with more points is averaged over equal stretches: the chart has no more pixels."""


@dataclass(frozen=True)
class Curve:
    """One curve of a chart.

    Attributes:
        name: Name in the read-out under the pointer.
        x: Epochs, increasing.
        y: Values, of the same length.
        style: Colour and line style; None draws a thin line in the background.
        label: Text at the curve's end; may be empty.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: Style | None = None
    label: str = ""


def chart(
    curves: Sequence[Curve],
    *,
    title: str,
    description: str,
    epochs: float,
    bounds: tuple[float | None, float | None] = (None, None),
    digits: int = 3,
    width: int = 620,
    height: int = 280,
) -> Markup:
    """Draw curves over epochs.

    Args:
        curves: The curves; those without a style are drawn first.
        title: Heading of the chart.
        description: Alternative text.
        epochs: The horizontal axis reaches at least to this epoch.
        bounds: Hard lower and upper end of the vertical axis; None follows the values.
        digits: Decimals of the values under the pointer.
        width: Width of the drawing's coordinates; the page scales it.
        height: Height of the drawing's coordinates.

    Returns:
        HTML of a ``figure``.
    """
    drawn = [_thinned(curve) for curve in curves if len(curve.x)]
    drawn.sort(key=lambda curve: curve.style is not None)
    if not drawn:
        text = f'<text x="{width / 2}" y="{height / 2}" text-anchor="middle">no values yet</text>'
        empty = f"{title}: no values yet"
        return figure(text, title=title, description=empty, width=width, height=height)
    plane = _plane(drawn, epochs, bounds, width, height)
    whole = [mark for mark in ticks(plane.from_x, plane.to_x, 8) if mark == int(mark)]
    return figure(
        plane.grid(_decimals(ticks(plane.from_y, plane.to_y))),
        plane.horizontal_axis([(mark, f"{mark:g}") for mark in whole], "epoch"),
        *(_line(curve, plane) for curve in drawn),
        *_labels(drawn, plane),
        title=title,
        description=description,
        width=width,
        height=height,
        series=json.dumps(_readout(drawn, plane, digits, width), separators=(",", ":")),
    )


def spark(values: Sequence[float], style: Style, *, width: int = 76, height: int = 20) -> Markup:
    """A spark line for a table cell: a curve without axes, with a dot at its best value.

    Args:
        values: The values in order, for instance validation AUROC by epoch.
        style: Its colour.
        width: Width in pixels.
        height: Height in pixels.
    """
    if len(values) < 2:
        return Markup()
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = (width - 6) / (len(values) - 1)
    places = [
        (3 + i * step, height - 3 - (value - low) / span * (height - 6))
        for i, value in enumerate(values)
    ]
    best_x, best_y = places[max(range(len(values)), key=values.__getitem__)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return fragment(
        f'<svg class="cxr-spark" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="from {values[0]:.3f} to {values[-1]:.3f}, best {high:.3f}">'
        f'<polyline points="{points}" fill="none" stroke="{style.colour}" stroke-width="1.6"/>'
        f'<circle cx="{best_x:.1f}" cy="{best_y:.1f}" r="2.4" fill="{style.colour}"/></svg>'
    )


def swatch(style: Style, *, width: int = 26) -> Markup:
    """A short line in a curve's style, for a legend."""
    return fragment(
        f'<svg class="cxr-swatch" width="{width}" height="10" aria-hidden="true">'
        f'<line x1="1" y1="5" x2="{width - 1}" y2="5" stroke="{style.colour}" stroke-width="2.4" '
        f'stroke-dasharray="{style.dasharray}"/></svg>'
    )


def _thinned(curve: Curve) -> Curve:
    count = len(curve.x)
    if count <= MOST_POINTS:
        return curve
    edges = [round(i * count / MOST_POINTS) for i in range(MOST_POINTS + 1)]
    parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
    x = [sum(curve.x[part]) / len(curve.x[part]) for part in parts]
    y = [sum(curve.y[part]) / len(curve.y[part]) for part in parts]
    return replace(curve, x=x, y=y)


def _plane(
    curves: Sequence[Curve],
    epochs: float,
    bounds: tuple[float | None, float | None],
    width: int,
    height: int,
) -> Plane:
    values = [value for curve in curves for value in curve.y]
    low, high = min(values), max(values)
    pad = (high - low) * 0.06 or 0.02
    low, high = low - pad, high + pad
    if bounds[0] is not None:
        low = max(low, bounds[0])
    if bounds[1] is not None:
        high = min(high, bounds[1])
    last = max([epochs, *(curve.x[-1] for curve in curves)])
    first = min([0.0, *(curve.x[0] for curve in curves)])
    room = 10 + CHARACTER_WIDTH * max(len(curve.label) for curve in curves)
    return Plane(44, width - max(room, 14), 8, height - 34, first, last, low, high)


def _decimals(marks: Sequence[float]) -> int:
    return next((d for d in range(5) if all(abs(round(m, d) - m) < 1e-9 for m in marks)), 5)


def _line(curve: Curve, plane: Plane) -> str:
    points = " ".join(
        f"{plane.x(x):.1f},{plane.y(y):.1f}" for x, y in zip(curve.x, curve.y, strict=True)
    )
    if curve.style is None:
        name = escape(curve.name)
        return f'<polyline class="cxr-thin" data-finding="{name}" points="{points}"/>'
    dot = ""
    if len(curve.x) == 1:  # a line of one point would be invisible
        x, y = points.split(",")
        dot = f'<circle cx="{x}" cy="{y}" r="3.5" fill="{curve.style.colour}"/>'
    return (
        f'<polyline class="cxr-curve" points="{points}" stroke="{curve.style.colour}" '
        f'stroke-dasharray="{curve.style.dasharray}"/>{dot}'
    )


def _labels(curves: Sequence[Curve], plane: Plane) -> list[str]:
    """Labels right of the curves' ends, pushed apart where they would overlap."""
    labelled = sorted((curve for curve in curves if curve.label), key=lambda curve: -curve.y[-1])
    heights = [plane.y(curve.y[-1]) + 4 for curve in labelled]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + LINE_HEIGHT)
    for i in range(len(heights) - 1, -1, -1):
        limit = plane.bottom if i == len(heights) - 1 else heights[i + 1] - LINE_HEIGHT
        heights[i] = min(heights[i], limit)
    parts = []
    for curve, y in zip(labelled, heights, strict=True):
        x = plane.x(curve.x[-1]) + 6
        kind = "cxr-end cxr-label" if curve.style else "cxr-end"
        finding = "" if curve.style else f' data-finding="{escape(curve.name)}"'
        label = escape(curve.label)
        parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{finding}>{label}</text>')
    return parts


def _readout(curves: Sequence[Curve], plane: Plane, digits: int, width: int) -> dict[str, object]:
    return {
        "width": width,
        "left": plane.left,
        "right": round(plane.right, 1),
        "top": plane.top,
        "bottom": plane.bottom,
        "from": plane.from_x,
        "to": plane.to_x,
        "digits": digits,
        "series": [
            {
                "name": curve.name,
                "colour": curve.style.colour if curve.style else "",
                "main": curve.style is not None,
                "x": [round(x, 3) for x in curve.x],
                "y": [round(y, 5) for y in curve.y],
            }
            for curve in curves
        ],
    }
