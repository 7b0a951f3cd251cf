"""What all charts share: the plot area with its axes, and the figure around the drawing.

Charts are inline SVG, which redraws without flicker and follows the page's theme: colours of axes
and text come from the style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from explorer.templates import render

LINE_HEIGHT = 13
"""Height of a line of text in a drawing's coordinates."""
CHARACTER_WIDTH = 6.1
"""Average width of a character in a drawing's coordinates."""


@dataclass(frozen=True)
class Plane:
    """The plot area of a chart.

    Attributes:
        left: Left edge in the drawing's coordinates; likewise ``right``, ``top``, ``bottom``.
        from_x: Value at the left edge.
        to_x: Value at the right edge.
        from_y: Value at the lower edge.
        to_y: Value at the upper edge.
    """

    left: float
    right: float
    top: float
    bottom: float
    from_x: float
    to_x: float
    from_y: float
    to_y: float

    def x(self, value: float) -> float:
        """Horizontal position of a value."""
        span = self.to_x - self.from_x or 1.0
        return self.left + (value - self.from_x) / span * (self.right - self.left)

    def y(self, value: float) -> float:
        """Vertical position of a value; one outside the plot area is moved to its edge."""
        span = self.to_y - self.from_y or 1.0
        inside = min(max(value, self.from_y), self.to_y)
        return self.bottom - (inside - self.from_y) / span * (self.bottom - self.top)

    def grid(self, decimals: int | None = None) -> str:
        """Horizontal grid lines with their values.

        Args:
            decimals: Decimals of the values; by default as many as an AUROC needs here.
        """
        if decimals is None:
            decimals = 3 if self.to_y - self.from_y < 0.04 else 2
        return "".join(
            f'<line class="cxr-grid" x1="{self.left:g}" x2="{self.right:.1f}" '
            f'y1="{self.y(value):.1f}" y2="{self.y(value):.1f}"/>'
            f'<text x="{self.left - 7:g}" y="{self.y(value) + 4:.1f}" text-anchor="end">'
            f"{value:.{decimals}f}</text>"
            for value in ticks(self.from_y, self.to_y)
        )

    def horizontal_axis(self, marks: Sequence[tuple[float, str]], label: str) -> str:
        """The horizontal axis.

        Args:
            marks: Values with their texts.
            label: What the axis shows.
        """
        texts = "".join(
            f'<text x="{self.x(value):.1f}" y="{self.bottom + 16:g}" text-anchor="middle">'
            f"{escape(text)}</text>"
            for value, text in marks
        )
        return (
            f'<line class="cxr-axis" x1="{self.left:g}" x2="{self.right:.1f}" '
            f'y1="{self.bottom:g}" y2="{self.bottom:g}"/>{texts}'
            f'<text x="{(self.left + self.right) / 2:.1f}" y="{self.bottom + 31:g}" '
            f'text-anchor="middle">{escape(label)}</text>'
        )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between two ends.

    Args:
        low: The lower end.
        high: The upper end.
        about: Approximate number of ticks.
    """
    span = high - low
    if not span > 0:
        return [low]
    rough = span / max(about, 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def fragment(*parts: str) -> Markup:
    """Join pieces of SVG whose texts are already escaped."""
    return Markup("".join(parts))  # noqa: S704 - escaped by the caller


def figure(
    *parts: str, title: str, description: str, width: int, height: int, series: str = ""
) -> Markup:
    """A chart as an HTML ``figure`` with its heading.

    Args:
        *parts: SVG of the drawing, its texts escaped.
        title: Heading.
        description: Alternative text.
        width: Width of the drawing's coordinates.
        height: Height of the drawing's coordinates.
        series: The values as JSON, for the read-out under the pointer.
    """
    return render(
        "figures/figure.html.j2",
        drawing=fragment(*parts),
        title=title,
        description=description,
        width=width,
        height=height,
        series=series,
    )
