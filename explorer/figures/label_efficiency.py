"""AUROC against the share of labels, one curve a method, with bands; and reliability curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from core.metrics.calibration import ReliabilityBin
from core.metrics.label_efficiency import Curve, percent
from explorer.figures.curves import ticks
from explorer.figures.markers import marker
from explorer.figures.palette import Style, method_style

NAMES = {"lora": "LoRA", "full": "full fine-tuning", "linear": "linear probe"}
LINE = 13
"""Height of a line of text in the drawing's own coordinates."""


@dataclass(frozen=True)
class _Plane:
    """Where values lie in a drawing.

    Attributes:
        box: Left, right, top and bottom of the plot.
        across: Values at the left and right end.
        up: Values at the lower and upper end.
    """

    box: tuple[float, float, float, float]
    across: tuple[float, float]
    up: tuple[float, float]

    def x(self, value: float) -> float:
        left, right, _, _ = self.box
        low, high = self.across
        return left + (value - low) / ((high - low) or 1.0) * (right - left)

    def y(self, value: float) -> float:
        _, _, top, bottom = self.box
        low, high = self.up
        return bottom - (value - low) / ((high - low) or 1.0) * (bottom - top)


def efficiency(
    curves: Sequence[Curve],
    *,
    title: str,
    named: bool = False,
    width: int = 360,
    height: int = 230,
) -> str:
    """Draw label-efficiency curves.

    Args:
        curves: One a method, each with a level at least.
        title: Heading.
        named: Write the methods' names beside their curves, where no legend stands elsewhere.
        width: Width of the drawing's own coordinates; the page scales it.
        height: Height of the same.

    Returns:
        HTML of a ``figure``.
    """
    levels = [level for one in curves for level in one.levels]
    ends = [
        end
        for level in levels
        for end in (level.auroc.value, level.auroc.low, level.auroc.high)
        if not math.isnan(end)
    ]
    low, high = max(0.0, min(ends) - 0.01), min(1.0, max(ends) + 0.01)
    room = 6.1 * max(len(_name(one.method)) for one in curves) if named else 0.0
    shares = sorted({level.fraction for level in levels})
    across = (math.log10(shares[0]) - 0.15, 0.15)
    plane = _Plane((44.0, width - 14.0 - room, 10.0, height - 40.0), across, (low, high))
    marks = [(math.log10(one), percent(one)) for one in shares]
    parts = [_rules(plane), _below(plane, marks, "share of the labels")]
    parts += [_band(one, plane) for one in curves]
    parts += [_line(one, plane) for one in curves]
    if named:
        parts += _names(curves, plane)
    said = "; ".join(
        f"{_name(one.method)} "
        + ", ".join(f"{level.auroc.value:.3f} with {percent(level.fraction)}"
                    for level in one.levels)
        for one in curves
    )  # fmt: skip
    return _figure(title, said, width, height, parts)


def reliability(
    before: Sequence[ReliabilityBin],
    style: Style,
    *,
    title: str,
    width: int = 300,
    height: int = 260,
) -> str:
    """Draw a reliability curve: share that was positive against the predicted probability.

    Args:
        before: Bins of studies.
        style: The look of the run's method.
        title: Heading.
        width: Width of the drawing's own coordinates; the page scales it.
        height: Height of the same.

    Returns:
        HTML of a ``figure``.
    """
    top = max([one.observed.high for one in before] + [one.predicted for one in before] + [0.1])
    end = min(1.0, top * 1.05)
    plane = _Plane((44.0, width - 12.0, 10.0, height - 40.0), (0.0, end), (0.0, end))
    marks = [(one, f"{one:g}") for one in ticks(0.0, end, 5)]
    parts = [
        _rules(plane),
        _below(plane, marks, "predicted probability"),
        f'<line class="cxr-axis" stroke-dasharray="4 4" x1="{plane.x(0):.1f}" '
        f'x2="{plane.x(end):.1f}" y1="{plane.y(0):.1f}" y2="{plane.y(end):.1f}"/>',
    ]
    for one in before:
        x = plane.x(one.predicted)
        words = (
            f"predicted {one.predicted:.3f}, observed {one.observed.value:.3f} "
            f"({one.observed.low:.3f} to {one.observed.high:.3f}) in {one.studies:,}"
        )
        parts.append(
            f'<g><title>{escape(words)}</title><line x1="{x:.1f}" x2="{x:.1f}" '
            f'y1="{plane.y(one.observed.low):.1f}" y2="{plane.y(one.observed.high):.1f}" '
            f'stroke="{style.colour}" stroke-width="2" opacity=".6"/>'
            f"{marker(style, x, plane.y(one.observed.value), 4)}</g>"
        )
    said = f"{title}: predicted against observed in {len(before)} groups of equal size"
    return _figure(title, said, width, height, parts)


def _figure(title: str, said: str, width: int, height: int, parts: Sequence[str]) -> str:
    return (
        f'<figure class="cxr-chart"><figcaption class="cxr-head">{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(f"{title}: {said}")}">{"".join(parts)}</svg></figure>'
    )


def _rules(plane: _Plane) -> str:
    left, right, _, _ = plane.box
    low, high = plane.up
    places = 3 if high - low < 0.04 else 2
    return "".join(
        f'<line class="cxr-grid" x1="{left}" x2="{right}" y1="{plane.y(at):.1f}" '
        f'y2="{plane.y(at):.1f}"/><text x="{left - 6}" y="{plane.y(at) + 4:.1f}" '
        f'text-anchor="end">{at:.{places}f}</text>'
        for at in ticks(low, high)
    )


def _below(plane: _Plane, marks: Sequence[tuple[float, str]], label: str) -> str:
    left, right, _, bottom = plane.box
    texts = "".join(
        f'<text x="{plane.x(at):.1f}" y="{bottom + 15}" text-anchor="middle">{words}</text>'
        for at, words in marks
    )
    return (
        f'<line class="cxr-axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>{texts}'
        f'<text x="{(left + right) / 2:.1f}" y="{bottom + 32}" text-anchor="middle">{label}</text>'
    )


def _band(one: Curve, plane: _Plane) -> str:
    known = [level for level in one.levels if not math.isnan(level.auroc.low)]
    if len(known) < 2:
        return ""
    there = [(plane.x(math.log10(level.fraction)), plane.y(level.auroc.high)) for level in known]
    back = [(plane.x(math.log10(level.fraction)), plane.y(level.auroc.low)) for level in known]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*there, *reversed(back)])
    return f'<polygon points="{points}" fill="{method_style(one.method).colour}" opacity=".16"/>'


def _line(one: Curve, plane: _Plane) -> str:
    style = method_style(one.method)
    places = [(plane.x(math.log10(v.fraction)), plane.y(v.auroc.value)) for v in one.levels]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    marks = "".join(
        f"<g><title>{escape(_words(one.method, level.fraction, level.auroc.value))}</title>"
        f"{marker(style, x, y)}</g>"
        for (x, y), level in zip(places, one.levels, strict=True)
    )
    return (
        f'<polyline points="{path}" fill="none" stroke="{style.colour}" stroke-width="2" '
        f'stroke-dasharray="{style.dasharray}"/>{marks}'
    )


def _names(curves: Sequence[Curve], plane: _Plane) -> list[str]:
    """Names beside the curves' ends, pushed apart where they would overlap."""
    parts, last = [], -math.inf
    for one in sorted(curves, key=lambda one: -one.levels[-1].auroc.value):
        last = max(plane.y(one.levels[-1].auroc.value) + 4, last + LINE)
        x = plane.x(math.log10(one.levels[-1].fraction)) + 9
        colour = method_style(one.method).colour
        parts.append(
            f'<text x="{x:.1f}" y="{last:.1f}" style="fill:{colour}">'
            f"{escape(_name(one.method))}</text>"
        )
    return parts


def _name(method: str) -> str:
    return NAMES.get(method, method)


def _words(method: str, fraction: float, value: float) -> str:
    return f"{_name(method)} with {percent(fraction)} of the labels: {value:.3f}"
