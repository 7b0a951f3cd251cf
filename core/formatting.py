"""Format numbers and times, in the same way in the explorer, the command line and reports."""

from __future__ import annotations

DISCLAIMER = "For research and education, not for clinical use"
"""Notice on every page and in every exported file."""


def auroc(value: float | None) -> str:
    """An AUROC for a table: ``0.806``, or a dash where there is none."""
    return "–" if value is None or value != value else f"{value:.3f}"


def points(difference: float, *, sign: bool = True) -> str:
    """A difference of AUROCs in points: ``+1.8``, or ``1.8`` without a plus sign; ``−0.4``."""
    text = f"{100 * difference:{'+' if sign else ''}.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def number(value: float) -> str:
    """A count with thousands separated: ``159,758``."""
    return f"{value:,.0f}"


def share(value: float) -> str:
    """A fraction as a percentage with three significant digits: ``0.186%``, ``10%``, ``100%``."""
    return f"{100 * value:.3g}%"


def percent(value: float) -> str:
    """A share as a whole percentage: ``72%``."""
    return f"{100 * value:.0f}%"


def gigabytes(size: float) -> str:
    """A number of bytes: ``2.1 GB``, ``24 GB``."""
    return f"{size / 1e9:.1f} GB" if size < 9.95e9 else f"{size / 1e9:,.0f} GB"


def capitalized(text: str) -> str:
    """The text with its first letter in upper case, the rest unchanged."""
    return text[:1].upper() + text[1:]


def duration(seconds: float | None) -> str:
    """A duration: ``8 s``, ``1 min 20 s``, ``2 h 5 min``; a dash where it is not known."""
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
