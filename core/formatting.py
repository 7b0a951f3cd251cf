"""Format numbers and times, in the same way in the explorer, the command line and reports."""

from __future__ import annotations

DISCLAIMER = "For research and education, not for clinical use"
"""The notice that stands on every page and in every exported file."""


def auroc(value: float | None) -> str:
    """An AUROC for a table: ``0.806``, or a dash where there is none."""
    return "–" if value is None or value != value else f"{value:.3f}"


def points(difference: float) -> str:
    """A difference of AUROCs in points: ``+1.8``, ``0.0``, ``−0.4``."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def number(value: float) -> str:
    """A count with thousands separated: ``159,758``."""
    return f"{value:,.0f}"


def share(value: float) -> str:
    """A share as a percentage with three significant digits: ``0.186%``, ``10%``, ``100%``."""
    return f"{100 * value:.3g}%"


def percent(value: float) -> str:
    """A share as a whole percentage: ``72%``."""
    return f"{100 * value:.0f}%"


def duration(seconds: float | None) -> str:
    """A time span to read at a glance: ``8 s``, ``1 min 20 s``, ``2 h 5 min``."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if minutes < 10 and rest else f"{minutes} min"
    hours, rest = divmod(whole // 60, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"
