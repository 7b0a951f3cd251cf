"""The charts in a page's HTML."""

import json
import re
from html import unescape
from typing import Any

import plotly.graph_objects as go


def figures(html: str) -> list[dict[str, Any]]:
    """Each chart as the page gets it; Plotly refuses keys and values that it does not know."""
    found = [json.loads(unescape(text)) for text in re.findall(r'data-figure="([^"]*)"', html)]
    for figure in found:
        go.Figure(figure)
    return found


def traces(html: str) -> dict[str, Any]:
    """All traces of the charts in some HTML, by name."""
    return {trace["name"]: trace for figure in figures(html) for trace in figure["data"]}
