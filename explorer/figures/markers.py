"""Marks as SVG: their shape distinguishes runs for readers who cannot tell the colours apart."""

from __future__ import annotations

from markupsafe import Markup

from explorer.figures.palette import Style
from explorer.figures.plot import fragment

# Outlines in a square from -1 to 1.
_POLYGONS: dict[str, str] = {
    "square": "-.85,-.85 .85,-.85 .85,.85 -.85,.85",
    "diamond": "0,-1.15 1.15,0 0,1.15 -1.15,0",
    "triangle-up": "0,-1.1 1.1,.85 -1.1,.85",
    "triangle-down": "0,1.1 1.1,-.85 -1.1,-.85",
    "cross": "-.38,-1.1 .38,-1.1 .38,-.38 1.1,-.38 1.1,.38 .38,.38 .38,1.1 -.38,1.1 "
    "-.38,.38 -1.1,.38 -1.1,-.38 -.38,-.38",
    "x": "-1.05,-.55 -.55,-1.05 0,-.5 .55,-1.05 1.05,-.55 .5,0 1.05,.55 .55,1.05 0,.5 "
    "-.55,1.05 -1.05,.55 -.5,0",
    "star": "0,-1.25 .36,-.4 1.2,-.39 .55,.15 .74,1.02 0,.5 -.74,1.02 -.55,.15 -1.2,-.39 -.36,-.4",
}


def marker(style: Style, x: float, y: float, radius: float = 4.5) -> Markup:
    """One mark inside an SVG drawing.

    Args:
        style: Its colour and shape.
        x: Centre.
        y: Centre.
        radius: Half its width, in the drawing's coordinates.
    """
    if style.marker == "circle":
        return fragment(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{style.colour}"/>')
    return fragment(
        f'<polygon points="{_POLYGONS[style.marker]}" fill="{style.colour}" '
        f'transform="translate({x:.1f} {y:.1f}) scale({radius})"/>'
    )


def mark(style: Style, size: int = 13) -> Markup:
    """A mark as an image of its own, for a line of text or over a plot.

    Args:
        style: Its colour and shape.
        size: Width and height in pixels.
    """
    half = size / 2
    return fragment(
        f'<svg class="cxr-mark" width="{size}" height="{size}" aria-hidden="true">'
        f"{marker(style, half, half, half * 0.72)}</svg>"
    )
