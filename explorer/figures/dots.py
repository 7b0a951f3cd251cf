"""Runs side by side: dots with intervals on one scale, and AUROC against what trains.

Dots are laid out by HTML, so that names and numbers keep their size at any width; every dot says
its values in its title, which the pointer and a screen reader find.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from core.metrics.intervals import Interval
from explorer.figures.curves import ticks
from explorer.figures.markers import mark, marker
from explorer.figures.palette import Style

DENSE = 3
"""Rows with more dots than this are drawn closer together."""


@dataclass(frozen=True)
class Scale:
    """A horizontal axis shared by all rows.

    Attributes:
        low: Value at the left end.
        high: Value at the right end.
        zero: A value to be marked, such as no difference; NaN marks none.
        factor: What values are multiplied by when they are written.
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
        """A scale that holds all intervals, with a little room."""
        ends = [
            end
            for one in intervals
            for end in (one.value, one.low, one.high, zero)
            if not math.isnan(end)
        ]
        low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
        room = 0.04 * (high - low) or 0.02
        low, high = max(low - room, within[0]), min(high + room, within[1])
        return cls(low, high, zero, factor, decimals)

    def across(self, value: float) -> float:
        """Where a value stands, in percent of the width."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return 100 * min(max(share, 0.0), 1.0)

    @property
    def marks(self) -> list[float]:
        """Round values for the axis."""
        return ticks(self.low, self.high, 6)

    def written(self, value: float) -> str:
        """A value as the axis writes it."""
        text = f"{value * self.factor:.{self.decimals}f}"
        return text.replace("-", "−") if float(text) else text.replace("-", "")


@dataclass(frozen=True)
class Dot:
    """One estimate with its interval.

    Attributes:
        interval: Value and bounds; NaN bounds draw no line.
        style: Colour and shape.
        title: What it says in words.
        wider: A second interval around the same value, drawn thin.
    """

    interval: Interval
    style: Style
    title: str
    wider: Interval | None = None


def dots(row: Sequence[Dot], scale: Scale) -> str:
    """HTML of one row's dots, one below the other on a common scale."""
    if row and all(math.isnan(one.interval.value) for one in row):
        words = "; ".join(one.title for one in row)
        return (
            f'<div class="cxr-dots cxr-undefined" title="{escape(words)}">{_rules(scale)}'
            "<span>not defined: one class only</span></div>"
        )
    lanes = "".join(_lane(one, scale) for one in row)
    dense = " cxr-dense" if len(row) > DENSE else ""
    return f'<div class="cxr-dots{dense}">{_rules(scale)}{lanes}</div>'


def axis(scale: Scale, label: str) -> str:
    """HTML of the axis that belongs to rows of ``dots``."""
    marks = "".join(
        f'<span style="left:{scale.across(one):.2f}%">{scale.written(one)}</span>'
        for one in scale.marks
    )
    return f'<div class="cxr-dots-axis" aria-hidden="true">{marks}<em>{escape(label)}</em></div>'


def _rules(scale: Scale) -> str:
    lines = "".join(
        f'<i class="cxr-rule" style="left:{scale.across(one):.2f}%"></i>' for one in scale.marks
    )
    if not math.isnan(scale.zero) and scale.low <= scale.zero <= scale.high:
        lines += f'<i class="cxr-rule cxr-zero" style="left:{scale.across(scale.zero):.2f}%"></i>'
    return lines


def _lane(dot: Dot, scale: Scale) -> str:
    if math.isnan(dot.interval.value):
        return f'<div class="cxr-lane" title="{escape(dot.title)}"><span>not defined</span></div>'
    parts = [
        _bar(one, dot.style, scale, kind)
        for one, kind in ((dot.wider, " cxr-thin-span"), (dot.interval, ""))
        if one is not None
    ]
    place = scale.across(dot.interval.value)
    return (
        f'<div class="cxr-lane" role="img" aria-label="{escape(dot.title)}" '
        f'title="{escape(dot.title)}">{"".join(parts)}'
        f'<b style="left:{place:.2f}%">{mark(dot.style)}</b></div>'
    )


def _bar(interval: Interval, style: Style, scale: Scale, kind: str) -> str:
    if math.isnan(interval.low):
        return ""
    left, right = scale.across(interval.low), scale.across(interval.high)
    return (
        f'<i class="cxr-span{kind}" style="left:{left:.2f}%;width:{right - left:.2f}%;'
        f'background:{style.colour}"></i>'
    )


@dataclass(frozen=True)
class Point:
    """One run in the plane of cost and score.

    Attributes:
        name: Written beside it.
        trainable: Parameters that train.
        auroc: With its interval.
        style: Colour and shape.
        title: What it says in words.
    """

    name: str
    trainable: int
    auroc: Interval
    style: Style
    title: str


def cost_and_score(
    points: Sequence[Point], *, title: str, width: int = 620, height: int = 280
) -> str:
    """AUROC against trainable parameters, the latter on a logarithmic axis.

    Args:
        points: At least one run.
        title: Heading.
        width: Width of the drawing's own coordinates.
        height: Height of the same.

    Returns:
        HTML of a ``figure``.
    """
    left, right, top, bottom = 48.0, width - 16.0, 12.0, height - 34.0
    powers = [math.log10(max(one.trainable, 1)) for one in points]
    first, last = min(powers) - 0.35, max(powers) + 0.35
    ends = [
        end
        for one in points
        for end in (one.auroc.value, one.auroc.low, one.auroc.high)
        if not math.isnan(end)
    ]
    room = (max(ends) - min(ends)) * 0.1 or 0.02
    low, high = max(0.0, min(ends) - room), min(1.0, max(ends) + room)

    def across(power: float) -> float:
        return left + (power - first) / (last - first) * (right - left)

    def up(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    parts = [
        f'<line class="cxr-grid" x1="{left}" x2="{right}" y1="{up(at):.1f}" y2="{up(at):.1f}"/>'
        f'<text x="{left - 7}" y="{up(at) + 4:.1f}" text-anchor="end">{at:.{_places(low, high)}f}'
        "</text>"
        for at in ticks(low, high)
    ]
    parts.append(f'<line class="cxr-axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    for power, text in _powers(first, last):
        parts.append(
            f'<text x="{across(power):.1f}" y="{bottom + 16}" text-anchor="middle">{text}</text>'
        )
    parts.append(
        f'<text x="{(left + right) / 2:.1f}" y="{bottom + 31}" text-anchor="middle">'
        "trainable parameters (logarithmic)</text>"
    )
    named = _names(points, [across(p) for p in powers], [up(p.auroc.value) for p in points], right)
    for one, power, label in zip(points, powers, named, strict=True):
        parts.append(_point(one, across(power), up, label))
    description = f"{title}: " + "; ".join(one.title for one in points)
    return (
        f'<figure class="cxr-chart"><figcaption class="cxr-head">{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _point(one: Point, x: float, up: Callable[[float], float], label: str) -> str:
    bar = ""
    if not math.isnan(one.auroc.low):
        y1, y2 = up(one.auroc.low), up(one.auroc.high)
        bar = (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" '
            f'stroke="{one.style.colour}" stroke-width="2" opacity=".7"/>'
        )
    dot = marker(one.style, x, up(one.auroc.value), 5.5)
    # A wide invisible disc is easier to point at than the mark.
    target = f'<circle cx="{x:.1f}" cy="{up(one.auroc.value):.1f}" r="14" fill="transparent"/>'
    return f"<g><title>{escape(one.title)}</title>{bar}{dot}{target}</g>{label}"


def _names(
    points: Sequence[Point], xs: Sequence[float], ys: Sequence[float], right: float
) -> list[str]:
    """A name beside each mark, on the side with room, moved down where two would overlap."""
    found: dict[int, str] = {}
    taken: list[tuple[float, float, float]] = []
    for i in sorted(range(len(points)), key=lambda i: ys[i]):
        size = 6.3 * len(points[i].name)
        on_left = xs[i] + 11 + size > right
        start = xs[i] - 11 - size if on_left else xs[i] + 11
        y = ys[i] + 4
        while any(a < start + size and start < b and abs(c - y) < 13 for a, b, c in taken):
            y += 3
        taken.append((start, start + size, y))
        x, anchor = (xs[i] - 11, "end") if on_left else (xs[i] + 11, "start")
        found[i] = (
            f'<text class="cxr-label" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
            f"{escape(points[i].name)}</text>"
        )
    return [found[i] for i in range(len(points))]


def _powers(first: float, last: float) -> list[tuple[float, str]]:
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
    return [(at, words) for at, words in marks if first <= at <= last]


def _places(low: float, high: float) -> int:
    return 3 if high - low < 0.04 else 2
