"""One look for each tuning method and each state of a run, the same on every page.

The colours of the methods most often compared are those of Okabe and Ito (2008), the others follow
Tol's muted scheme; both are told apart with any common colour vision, and line style and marker
repeat what the colour says. Those of the three main methods keep a contrast of at least 3:1 against
both of the explorer's backgrounds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """How a curve, dot or bar is drawn.

    Attributes:
        colour: Hexadecimal RGB.
        dash: Name of the line style in Plotly.
        dasharray: The same line style in SVG; empty is solid.
        marker: Name of the marker in Plotly.
    """

    colour: str
    dash: str
    dasharray: str
    marker: str


METHODS: dict[str, Style] = {
    "lora": Style("#009E73", "solid", "", "circle"),
    "full": Style("#D55E00", "dash", "7 4", "square"),
    "linear": Style("#0072B2", "dot", "2 3", "diamond"),
    "dora": Style("#CC79A7", "dashdot", "7 3 2 3", "triangle-up"),
    "rslora": Style("#E69F00", "longdash", "11 4", "triangle-down"),
    "pissa": Style("#56B4E9", "longdashdot", "11 3 2 3", "cross"),
    "loha": Style("#AA4499", "solid", "", "x"),
    "lokr": Style("#44AA99", "dash", "7 4", "pentagon"),
    "vera": Style("#999933", "dot", "2 3", "hexagon"),
    "ia3": Style("#CC6677", "dashdot", "7 3 2 3", "star-triangle-up"),
    "bitfit": Style("#7D8FD1", "longdash", "11 4", "diamond-tall"),
    "ln-tuning": Style("#B5894B", "longdashdot", "11 3 2 3", "bowtie"),
    "olora": Style("#88CCEE", "dash", "7 4", "cross"),
    "lora+": Style("#117733", "dot", "2 3", "circle"),
    "lora-fa": Style("#66A61E", "dashdot", "7 3 2 3", "circle"),
    "adalora": Style("#1B9E77", "longdash", "11 4", "octagon"),
    "vblora": Style("#DDAA33", "solid", "", "hexagon2"),
    "oft": Style("#6699CC", "dash", "7 4", "hourglass"),
    "boft": Style("#5566AA", "longdashdot", "11 3 2 3", "hourglass"),
    "fourierft": Style("#BB5566", "dot", "2 3", "star-diamond"),
    "ssf": Style("#C2A5CF", "longdash", "11 4", "square"),
    "vpt": Style("#9970AB", "solid", "", "triangle-left"),
    "last-k": Style("#EE7733", "longdash", "11 4", "square"),
}
OTHER = Style("#8A94A6", "dashdot", "5 3 1 3", "star")
"""For a method that has no style of its own."""


def method_style(method: str) -> Style:
    """The look of one tuning method."""
    return METHODS.get(method, OTHER)


def run_styles(methods: list[str]) -> list[Style]:
    """One look for each of several runs: its method's, lighter and otherwise dashed when repeated.

    Args:
        methods: The method of each run, in the order in which they are shown.
    """
    dashes = [(style.dash, style.dasharray) for style in METHODS.values()]
    markers = [style.marker for style in METHODS.values()]
    seen: dict[str, int] = {}
    styles = []
    for method in methods:
        base, again = method_style(method), seen.get(method, 0)
        seen[method] = again + 1
        if again == 0:
            styles.append(base)
            continue
        start = dashes.index((base.dash, base.dasharray)) if method in METHODS else 0
        dash, dasharray = dashes[(start + again) % len(dashes)]
        marker = markers[(start + again) % len(markers)]
        styles.append(Style(_lighter(base.colour, min(0.22 * again, 0.6)), dash, dasharray, marker))
    return styles


def _lighter(colour: str, share: float) -> str:
    levels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(one + (255 - one) * share):02X}" for one in levels)


@dataclass(frozen=True)
class StateLook:
    """How a run's state is shown.

    Attributes:
        word: The state for people.
        tone: ``quiet``, ``busy``, ``good``, ``bad`` or ``warn``; CSS class ``cxr-dot-TONE``.
        hollow: Whether the dot is a ring, for what has not begun or did not end by itself.
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


def state_dot(state: str) -> str:
    """HTML of a state: a dot and the word, so that colour never speaks alone."""
    look = STATES[state]
    ring = " cxr-dot-hollow" if look.hollow else ""
    return (
        f'<span class="cxr-state"><span class="cxr-dot cxr-dot-{look.tone}{ring}" '
        f'aria-hidden="true"></span>{look.word}</span>'
    )
