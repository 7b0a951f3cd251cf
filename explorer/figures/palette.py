"""Colours, line styles and markers of tuning methods, and dots of run states, on every page.

The colours of the methods most often compared are those of Okabe and Ito (2008), the others follow
Tol's muted scheme; both can be distinguished with any common colour vision, and line style and
marker repeat the information. Those of the three main methods have a contrast of at least 3:1 to
both of the explorer's backgrounds.
"""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from explorer.templates import render_macro


@dataclass(frozen=True)
class Style:
    """How a curve, dot or bar is drawn.

    Attributes:
        colour: Hexadecimal RGB.
        dasharray: Line style in SVG; empty is solid.
        marker: Shape of the marker, a symbol of Plotly; ``explorer.css`` draws the same shape.
    """

    colour: str
    dasharray: str
    marker: str


METHODS: dict[str, Style] = {
    "lora": Style("#009E73", "", "circle"),
    "full": Style("#D55E00", "7 4", "square"),
    "linear": Style("#0072B2", "2 3", "diamond"),
    "dora": Style("#CC79A7", "7 3 2 3", "triangle-up"),
    "rslora": Style("#E69F00", "11 4", "triangle-down"),
    "pissa": Style("#56B4E9", "11 3 2 3", "cross"),
    "loha": Style("#AA4499", "", "x"),
    "lokr": Style("#44AA99", "7 4", "circle"),
    "vera": Style("#999933", "2 3", "circle"),
    "ia3": Style("#CC6677", "7 3 2 3", "circle"),
    "bitfit": Style("#7D8FD1", "11 4", "circle"),
    "ln-tuning": Style("#B5894B", "11 3 2 3", "circle"),
    "olora": Style("#88CCEE", "7 4", "cross"),
    "lora+": Style("#117733", "2 3", "circle"),
    "lora-fa": Style("#66A61E", "7 3 2 3", "circle"),
    "adalora": Style("#1B9E77", "11 4", "circle"),
    "vblora": Style("#DDAA33", "", "circle"),
    "oft": Style("#6699CC", "7 4", "circle"),
    "boft": Style("#5566AA", "11 3 2 3", "circle"),
    "fourierft": Style("#BB5566", "2 3", "circle"),
    "ssf": Style("#C2A5CF", "11 4", "square"),
    "vpt": Style("#9970AB", "", "circle"),
    "last-k": Style("#EE7733", "11 4", "square"),
    "attentive": Style("#3F8FD2", "7 4", "diamond"),
    "logistic": Style("#33BBEE", "11 3 2 3", "diamond"),
    "knn": Style("#AA7766", "7 3 2 3", "diamond"),
    "pixels": Style("#8A8A5C", "2 3", "square"),
}
OTHER = Style("#8A94A6", "5 3 1 3", "star")
"""Style of a method without an entry in ``METHODS``."""


def method_style(method: str) -> Style:
    """The style of one tuning method."""
    return METHODS.get(method, OTHER)


def run_styles(methods: list[str]) -> list[Style]:
    """A style for each of several runs: its method's, lighter and with other dashes if repeated.

    Args:
        methods: The method of each run, in display order.
    """
    dashes = [style.dasharray for style in METHODS.values()]
    markers = [style.marker for style in METHODS.values()]
    seen: dict[str, int] = {}
    styles = []
    for method in methods:
        base, repeat = method_style(method), seen.get(method, 0)
        seen[method] = repeat + 1
        if repeat == 0:
            styles.append(base)
            continue
        start = dashes.index(base.dasharray) if method in METHODS else 0
        place = (start + repeat) % len(dashes)
        colour = _lighter(base.colour, min(0.22 * repeat, 0.6))
        styles.append(Style(colour, dashes[place], markers[place]))
    return styles


def _lighter(colour: str, share: float) -> str:
    levels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(level + (255 - level) * share):02X}" for level in levels)


@dataclass(frozen=True)
class StateLook:
    """How a run's state is shown.

    Attributes:
        word: The state as text.
        tone: ``quiet``, ``busy``, ``good``, ``bad`` or ``warn``; CSS class ``cxr-dot-TONE``.
        hollow: Whether the dot is a ring, for runs that have not begun or did not end by
            themselves.
    """

    word: str
    tone: str
    hollow: bool = False


STATES: dict[str, StateLook] = {
    "queued": StateLook("queued", "quiet", hollow=True),
    "starting": StateLook("starting", "busy", hollow=True),
    "running": StateLook("running", "busy"),
    "stopping": StateLook("stopping", "warn", hollow=True),
    "completed": StateLook("completed", "good"),
    "stopped": StateLook("stopped", "quiet"),
    "failed": StateLook("failed", "bad"),
    "lost": StateLook("lost", "bad", hollow=True),
}


def state_dot(state: str) -> Markup:
    """A state as HTML: a dot and the word, so that the colour is never the only information."""
    return render_macro("figures/palette.html.j2", "state_dot", look=STATES[state])
