"""A chart of the explorer outside its page: one picture that needs no style sheet.

Notebooks show it in JupyterLab, on Colab and on a printout; nothing in it is a script.
"""

from __future__ import annotations

import base64
import re
from html import escape, unescape

STYLE = (
    "text{fill:#46505f;font:11.5px system-ui,sans-serif}"
    ".cxr-grid{stroke:#e3e7ed;stroke-width:1}.cxr-axis{stroke:#9aa5b5;stroke-width:1}"
    ".cxr-thin{stroke:#aab4c3;stroke-width:1;opacity:.7;fill:none}"
    ".cxr-curve{fill:none;stroke-width:2.2;stroke-linejoin:round}.cxr-label{fill:#1a2330}"
    ".cxr-title{fill:#1a2330;font-weight:600;font-size:13px}"
)
"""What ``explorer.css`` says of charts, in its light theme."""

HEAD, ROOM = 26, 8
"""Heights above the drawing, for its title, and below it."""

_BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_TITLE = re.compile(r"<figcaption[^>]*>(.*?)</figcaption>", re.DOTALL)
_DRAWING = re.compile(r"<svg([^>]*)>(.*)</svg>", re.DOTALL)
_LABEL = re.compile(r'aria-label="([^"]*)"')


def svg(chart: str) -> str:
    """A chart as an SVG document with its title and a white ground.

    Args:
        chart: HTML of a ``figure`` as the functions beside this one draw it.

    Raises:
        ValueError: There is no drawing in it.
    """
    drawing, box = _DRAWING.search(chart), _BOX.search(chart)
    if drawing is None or box is None:
        raise ValueError("only figures with one SVG drawing can stand alone")
    width, height = (float(one) for one in box.groups())
    titled = _TITLE.search(chart)
    title = "" if titled is None else titled.group(1)
    tall = height + HEAD + ROOM
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{tall:g}" '
        f'viewBox="0 0 {width:g} {tall:g}"><style>{STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<text class="cxr-title" x="8" y="18">{title}</text>'
        f'<g transform="translate(0 {HEAD})">{drawing.group(2)}</g></svg>'
    )


def picture(*charts: str, scale: float = 1.0) -> str:
    """Charts side by side as HTML pictures, with what they show in words for those who cannot see.

    Args:
        *charts: HTML of figures.
        scale: Size on the page, where 1 is the drawing's own.

    Raises:
        ValueError: One of them has no drawing.
    """
    return "".join(_picture(one, scale) for one in charts)


def _picture(chart: str, scale: float) -> str:
    document = svg(chart)
    said = _LABEL.search(chart)
    words = "" if said is None else unescape(said.group(1))
    box = _BOX.search(document)
    width = float(box.group(1)) * scale if box else 600
    packed = base64.b64encode(document.encode()).decode("ascii")
    return (
        f'<img alt="{escape(words)}" width="{width:.0f}" src="data:image/svg+xml;base64,{packed}"/>'
    )
