"""Charts of the explorer as images outside its pages, without a style sheet.

Notebooks show them in JupyterLab, on Colab and in print; they contain no script.
"""

from __future__ import annotations

import base64
import re
from html import unescape

from markupsafe import Markup

from explorer.figures.plot import fragment
from explorer.templates import render_macro

STYLE = (
    "text{fill:#46505f;font:11.5px system-ui,sans-serif}"
    ".cxr-grid{stroke:#e3e7ed;stroke-width:1}.cxr-axis{stroke:#9aa5b5;stroke-width:1}"
    ".cxr-thin{stroke:#aab4c3;stroke-width:1;opacity:.7;fill:none}"
    ".cxr-curve{fill:none;stroke-width:2.2;stroke-linejoin:round}.cxr-label{fill:#1a2330}"
    ".cxr-title{fill:#1a2330;font-weight:600;font-size:13px}"
)
"""The rules of ``explorer.css`` for charts, in its light theme."""

HEAD, ROOM = 26, 8
"""Heights above the drawing, for its title, and below it."""

_BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_TITLE = re.compile(r"<figcaption[^>]*>(.*?)</figcaption>", re.DOTALL)
_DRAWING = re.compile(r"<svg([^>]*)>(.*)</svg>", re.DOTALL)
_LABEL = re.compile(r'aria-label="([^"]*)"')


def svg(chart: str) -> Markup:
    """A chart as an SVG document with its title and a white background.

    Args:
        chart: HTML of a ``figure``, made by a function of this package.

    Raises:
        ValueError: It contains no drawing.
    """
    drawing, box = _DRAWING.search(chart), _BOX.search(chart)
    if drawing is None or box is None:
        raise ValueError("only figures with one SVG drawing can stand alone")
    width, height = float(box[1]), float(box[2]) + HEAD + ROOM
    heading = _TITLE.search(chart)
    title = heading[1] if heading else ""
    return fragment(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}"><style>{STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<text class="cxr-title" x="8" y="18">{title}</text>'
        f'<g transform="translate(0 {HEAD})">{drawing[2]}</g></svg>'
    )


def picture(*charts: str, scale: float = 1.0) -> Markup:
    """Charts side by side as HTML images with alternative texts.

    Args:
        *charts: HTML of figures.
        scale: Size on the page; 1 is the drawing's own.

    Raises:
        ValueError: One of them contains no drawing.
    """
    return Markup().join(_image(chart, scale) for chart in charts)


def _image(chart: str, scale: float) -> Markup:
    document = svg(chart)
    description, box = _LABEL.search(chart), _BOX.search(document)
    return render_macro(
        "figures/standalone.html.j2",
        "image",
        description=unescape(description[1]) if description else "",
        width=round(float(box[1]) * scale) if box else 600,
        data=base64.b64encode(document.encode()).decode("ascii"),
    )
