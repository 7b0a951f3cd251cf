"""Learning curves as inline SVG, which redraws without flicker and follows the page's theme.

Colours of axes and text come from the style sheet; those of the curves from ``palette``. The values
are carried along in ``data-series``, from which the page reads what stands under the pointer.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from explorer.figures.palette import Style

LINE = 12.5
"""Height of a line of text between the names of two curves."""
MOST_POINTS = 240
"""A curve with more points is averaged over equal stretches: the chart has no more pixels."""


@dataclass(frozen=True)
class Curve:
    """One curve of a chart.

    Attributes:
        name: What it shows.
        x: Epochs, increasing.
        y: Values, of the same length.
        style: Its look; None is a thin line that stays in the background.
        label: Written at its end; empty writes nothing.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: Style | None = None
    label: str = ""


@dataclass(frozen=True)
class _Frame:
    left: float
    right: float
    top: float
    bottom: float
    from_x: float
    to_x: float
    from_y: float
    to_y: float

    def across(self, x: float) -> float:
        span = self.to_x - self.from_x or 1.0
        return self.left + (x - self.from_x) / span * (self.right - self.left)

    def up(self, y: float) -> float:
        span = self.to_y - self.from_y or 1.0
        return self.bottom - (y - self.from_y) / span * (self.bottom - self.top)


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
) -> str:
    """Draw curves over epochs.

    Args:
        curves: The curves; those without a style are drawn first.
        title: Heading of the chart.
        description: What it shows in words, for those who do not see it.
        epochs: Where the horizontal axis ends at least.
        bounds: Hard lower and upper end of the vertical axis; None follows the values.
        digits: Decimals of the values under the pointer.
        width: Width of the drawing's own coordinates; the page scales it.
        height: Height of the same.

    Returns:
        HTML of a ``figure``.
    """
    drawn = [_thinned(one) for one in curves if len(one.x)]
    drawn.sort(key=lambda one: one.style is not None)
    heading = f'<figcaption class="cxr-head">{escape(title)}</figcaption>'
    if not drawn:
        empty = (
            f'<svg viewBox="0 0 {width} {height}" role="img" '
            f'aria-label="{escape(title)}: no values yet">'
        )
        words = f'<text x="{width / 2}" y="{height / 2}" text-anchor="middle">no values yet</text>'
        return f'<figure class="cxr-chart">{heading}{empty}{words}</svg></figure>'
    frame = _frame(drawn, epochs, bounds, width, height)
    parts = [*_vertical_axis(frame), *_horizontal_axis(frame)]
    parts += [_line(one, frame) for one in drawn]
    parts += _labels(drawn, frame)
    series = escape(json.dumps(_readout(drawn, frame, digits, width), separators=(",", ":")))
    return (
        f'<figure class="cxr-chart">{heading}<svg viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{escape(description)}" data-series="{series}">'
        f"{''.join(parts)}</svg></figure>"
    )


def spark(values: Sequence[float], style: Style, *, width: int = 76, height: int = 20) -> str:
    """A curve without axes for a table cell: how the values developed, a dot at the best.

    Args:
        values: The values in order, for instance validation AUROC by epoch.
        style: Its look.
        width: Width in pixels.
        height: Height in pixels.
    """
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = (width - 6) / (len(values) - 1)
    places = [
        (3 + i * step, height - 3 - (value - low) / span * (height - 6))
        for i, value in enumerate(values)
    ]
    best = places[max(range(len(values)), key=values.__getitem__)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return (
        f'<svg class="cxr-spark" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="from {values[0]:.3f} to {values[-1]:.3f}, best {high:.3f}">'
        f'<polyline points="{path}" fill="none" stroke="{style.colour}" stroke-width="1.6"/>'
        f'<circle cx="{best[0]:.1f}" cy="{best[1]:.1f}" r="2.4" fill="{style.colour}"/></svg>'
    )


def swatch(style: Style, *, width: int = 26) -> str:
    """A short piece of a curve, to stand before its name."""
    return (
        f'<svg class="cxr-swatch" width="{width}" height="10" aria-hidden="true">'
        f'<line x1="1" y1="5" x2="{width - 1}" y2="5" stroke="{style.colour}" stroke-width="2.4" '
        f'stroke-dasharray="{style.dasharray}"/></svg>'
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between two ends, about as many as wanted."""
    span = high - low
    if not span > 0:
        return [low]
    rough = span / max(about, 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _thinned(curve: Curve) -> Curve:
    count = len(curve.x)
    if count <= MOST_POINTS:
        return curve
    edges = [round(i * count / MOST_POINTS) for i in range(MOST_POINTS + 1)]
    parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
    x = [sum(curve.x[part]) / len(curve.x[part]) for part in parts]
    y = [sum(curve.y[part]) / len(curve.y[part]) for part in parts]
    return Curve(curve.name, x, y, curve.style, curve.label)


def _frame(
    curves: Sequence[Curve],
    epochs: float,
    bounds: tuple[float | None, float | None],
    width: int,
    height: int,
) -> _Frame:
    values = sorted(value for one in curves for value in one.y)
    low, high = values[0], values[-1]
    pad = (high - low) * 0.06 or 0.02
    low, high = low - pad, high + pad
    if bounds[0] is not None:
        low = max(low, bounds[0])
    if bounds[1] is not None:
        high = min(high, bounds[1])
    last = max([epochs, *(one.x[-1] for one in curves)])
    first = min([0.0, *(one.x[0] for one in curves)])
    room = 10 + 6.1 * max(len(one.label) for one in curves)
    return _Frame(44, width - max(room, 14), 8, height - 34, first, last, low, high)


def _vertical_axis(frame: _Frame) -> list[str]:
    marks = ticks(frame.from_y, frame.to_y)
    decimals = _decimals(marks)
    parts = []
    for mark in marks:
        y = frame.up(mark)
        parts.append(
            f'<line class="cxr-grid" x1="{frame.left}" x2="{frame.right:.1f}" y1="{y:.1f}" '
            f'y2="{y:.1f}"/><text x="{frame.left - 7}" y="{y + 4:.1f}" text-anchor="end">'
            f"{mark:.{decimals}f}</text>"
        )
    return parts


def _horizontal_axis(frame: _Frame) -> list[str]:
    marks = [one for one in ticks(frame.from_x, frame.to_x, 8) if one == int(one)]
    parts = [
        f'<line class="cxr-axis" x1="{frame.left}" x2="{frame.right:.1f}" y1="{frame.bottom}" '
        f'y2="{frame.bottom}"/>'
    ]
    for mark in marks:
        x = frame.across(mark)
        parts.append(
            f'<text x="{x:.1f}" y="{frame.bottom + 16}" text-anchor="middle">{mark:g}</text>'
        )
    middle = (frame.left + frame.right) / 2
    parts.append(
        f'<text x="{middle:.1f}" y="{frame.bottom + 31}" text-anchor="middle">epoch</text>'
    )
    return parts


def _decimals(marks: Sequence[float]) -> int:
    return next((d for d in range(5) if all(abs(round(m, d) - m) < 1e-9 for m in marks)), 5)


def _line(curve: Curve, frame: _Frame) -> str:
    points = " ".join(
        f"{frame.across(x):.1f},{frame.up(min(max(y, frame.from_y), frame.to_y)):.1f}"
        for x, y in zip(curve.x, curve.y, strict=True)
    )
    name = escape(curve.name)
    if curve.style is None:
        return f'<polyline class="cxr-thin" data-finding="{name}" points="{points}"/>'
    only = ""
    if len(curve.x) == 1:
        x, y = points.split(",")
        only = f'<circle cx="{x}" cy="{y}" r="3.5" fill="{curve.style.colour}"/>'
    return (
        f'<polyline class="cxr-curve" points="{points}" stroke="{curve.style.colour}" '
        f'stroke-dasharray="{curve.style.dasharray}"/>{only}'
    )


def _labels(curves: Sequence[Curve], frame: _Frame) -> list[str]:
    """Names at the right of the curves' ends, pushed apart where they would overlap."""
    named = sorted((one for one in curves if one.label), key=lambda one: -one.y[-1])
    heights = [frame.up(min(max(one.y[-1], frame.from_y), frame.to_y)) + 4 for one in named]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + LINE)
    for i in range(len(heights) - 1, -1, -1):
        limit = frame.bottom if i == len(heights) - 1 else heights[i + 1] - LINE
        heights[i] = min(heights[i], limit)
    parts = []
    for one, y in zip(named, heights, strict=True):
        x = frame.across(one.x[-1]) + 6
        kind = "cxr-end cxr-label" if one.style else "cxr-end"
        mark = "" if one.style else f' data-finding="{escape(one.name)}"'
        label = escape(one.label)
        parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{mark}>{label}</text>')
    return parts


def _readout(curves: Sequence[Curve], frame: _Frame, digits: int, width: int) -> dict[str, object]:
    return {
        "width": width,
        "left": frame.left,
        "right": round(frame.right, 1),
        "top": frame.top,
        "bottom": frame.bottom,
        "from": frame.from_x,
        "to": frame.to_x,
        "digits": digits,
        "series": [
            {
                "name": one.name,
                "colour": one.style.colour if one.style else "",
                "main": one.style is not None,
                "x": [round(x, 3) for x in one.x],
                "y": [round(y, 5) for y in one.y],
            }
            for one in curves
        ],
    }
