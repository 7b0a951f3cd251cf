"""Runs side by side: dots with intervals on one scale, and AUROC against trainable parameters.

Rows of dots are HTML, so that names and numbers keep their size at any width. The title of each dot
gives its values, for the pointer and for screen readers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from core.metrics.intervals import Interval
from explorer.figures.markers import mark, marker
from explorer.figures.palette import Style
from explorer.figures.plot import CHARACTER_WIDTH, LINE_HEIGHT, Plane, figure, ticks
from explorer.templates import render_macro

TEMPLATE = "figures/dots.html.j2"


@dataclass(frozen=True)
class Scale:
    """A horizontal axis shared by all rows.

    Attributes:
        low: Value at the left end.
        high: Value at the right end.
        zero: A value with a line of its own, such as no difference; NaN for none.
        factor: Values are multiplied by this before they are written.
        decimals: Decimals of the written values.
    """

    low: float
    high: float
    zero: float = math.nan
    factor: float = 1.0
    decimals: int = 2

    @classmethod
    def around(
        cls,
        intervals: Sequence[Interval],
        *,
        zero: float = math.nan,
        within: tuple[float, float] = (-math.inf, math.inf),
        factor: float = 1.0,
        decimals: int = 2,
    ) -> Scale:
        """A scale that holds all intervals, with a margin of 4%."""
        ends = _ends(intervals)
        if ends and not math.isnan(zero):
            ends.append(zero)
        low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
        room = 0.04 * (high - low) or 0.02
        low, high = max(low - room, within[0]), min(high + room, within[1])
        return cls(low, high, zero, factor, decimals)

    def percent(self, value: float) -> float:
        """Position of a value, in percent of the width."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return 100 * min(max(share, 0.0), 1.0)

    @property
    def marks(self) -> list[float]:
        """Round values for the axis."""
        return ticks(self.low, self.high, 6)

    def text(self, value: float) -> str:
        """A value as the axis shows it."""
        text = f"{value * self.factor:.{self.decimals}f}"
        return text.replace("-", "−") if float(text) else text.replace("-", "")


@dataclass(frozen=True)
class Dot:
    """One estimate with its interval.

    Attributes:
        interval: Value and bounds; NaN bounds draw no line.
        style: Colour and shape.
        title: The values in words.
        wider: A second interval around the same value, drawn thin.
    """

    interval: Interval
    style: Style
    title: str
    wider: Interval | None = None

    @property
    def defined(self) -> bool:
        """Whether there is a value."""
        return not math.isnan(self.interval.value)


def dots(row: Sequence[Dot], scale: Scale) -> Markup:
    """One row's dots as HTML, one below the other on a common scale."""
    if row and not any(dot.defined for dot in row):
        return render_macro(TEMPLATE, "undefined", dots=row, scale=scale)
    return render_macro(TEMPLATE, "row", dots=row, scale=scale, mark=mark)


def axis(scale: Scale, label: str) -> Markup:
    """The axis of rows of ``dots`` as HTML."""
    return render_macro(TEMPLATE, "axis", scale=scale, label=label)


@dataclass(frozen=True)
class Point:
    """One run in the plane of trainable parameters and AUROC.

    Attributes:
        name: Text next to the point.
        trainable: Number of trainable parameters.
        auroc: With its interval.
        style: Colour and shape.
        title: The values in words.
    """

    name: str
    trainable: int
    auroc: Interval
    style: Style
    title: str


def cost_and_score(
    points: Sequence[Point], *, title: str, width: int = 620, height: int = 280
) -> Markup:
    """AUROC against trainable parameters, the latter on a logarithmic axis.

    Args:
        points: At least one run.
        title: Heading.
        width: Width of the drawing's coordinates.
        height: Height of the drawing's coordinates.

    Returns:
        HTML of a ``figure``.
    """
    powers = [math.log10(max(point.trainable, 1)) for point in points]
    first, last = min(powers) - 0.35, max(powers) + 0.35
    ends = _ends([point.auroc for point in points])
    room = (max(ends) - min(ends)) * 0.1 or 0.02
    low, high = max(0.0, min(ends) - room), min(1.0, max(ends) + room)
    plane = Plane(48, width - 16, 12, height - 34, first, last, low, high)
    places = [
        (plane.x(power), plane.y(point.auroc.value))
        for power, point in zip(powers, points, strict=True)
    ]
    return figure(
        plane.grid(),
        plane.horizontal_axis(_powers(first, last), "trainable parameters (logarithmic)"),
        *(_point(point, x, plane) for point, (x, _) in zip(points, places, strict=True)),
        *_names([point.name for point in points], places, plane.right),
        title=title,
        description=f"{title}: " + "; ".join(point.title for point in points),
        width=width,
        height=height,
    )


def _ends(intervals: Sequence[Interval]) -> list[float]:
    ends = [end for each in intervals for end in (each.value, each.low, each.high)]
    return [end for end in ends if not math.isnan(end)]


def _point(point: Point, x: float, plane: Plane) -> str:
    y = plane.y(point.auroc.value)
    bar = ""
    if not math.isnan(point.auroc.low):
        y1, y2 = plane.y(point.auroc.low), plane.y(point.auroc.high)
        bar = (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" '
            f'stroke="{point.style.colour}" stroke-width="2" opacity=".7"/>'
        )
    # A wide transparent disc is easier to point at than the mark.
    target = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="14" fill="transparent"/>'
    return (
        f"<g><title>{escape(point.title)}</title>{bar}{marker(point.style, x, y, 5.5)}{target}</g>"
    )


def _names(names: Sequence[str], places: Sequence[tuple[float, float]], right: float) -> list[str]:
    """A name next to each mark, on the side with room, moved down where two would overlap."""
    texts: list[str] = []
    taken: list[tuple[float, float, float]] = []
    for name, (x, y) in sorted(zip(names, places, strict=True), key=lambda pair: pair[1][1]):
        size = CHARACTER_WIDTH * len(name)
        on_left = x + 11 + size > right
        start = x - 11 - size if on_left else x + 11
        y += 4
        while any(a < start + size and start < b and abs(c - y) < LINE_HEIGHT for a, b, c in taken):
            y += 3
        taken.append((start, start + size, y))
        at, anchor = (x - 11, "end") if on_left else (x + 11, "start")
        texts.append(
            f'<text class="cxr-label" x="{at:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
            f"{escape(name)}</text>"
        )
    return texts


def _powers(first: float, last: float) -> list[tuple[float, str]]:
    """Marks of a logarithmic axis: powers of ten, and three times these where there is room."""

    def text(value: float) -> str:
        for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
            if value >= size:
                return f"{value / size:g}{unit}"
        return f"{value:g}"

    steps = (1, 3) if last - first < 3 else (1,)
    marks = [
        (power + math.log10(step), text(step * 10.0**power))
        for power in range(math.floor(first), math.ceil(last) + 1)
        for step in steps
    ]
    return [(place, label) for place, label in marks if first <= place <= last]
