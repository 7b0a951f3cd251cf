"""How numbers, runs and faults are written, the same on every page."""

from __future__ import annotations

from html import escape

from core.config.run import RunSpec
from core.errors import CoreError
from core.models.tuning.registry import METHODS
from core.runs.store import Run


def auroc(value: float | None) -> str:
    """An AUROC for a table: ``0.806``, or a dash where there is none."""
    return "–" if value is None or value != value else f"{value:.3f}"


def points(difference: float) -> str:
    """A difference of AUROCs in points: ``+1.8``."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def number(value: float) -> str:
    """A count with thousands separated: ``159,758``."""
    return f"{value:,.0f}"


def share(value: float) -> str:
    """A share as a percentage with three significant digits: ``0.186%``, ``10%``, ``100%``."""
    return f"{100 * value:.3g}%"


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


def adapter(spec: RunSpec) -> str:
    """The method with what distinguishes it: ``LoRA r 4``, ``full``, ``linear``."""
    method = METHODS.get(spec.adapter.method)
    title = method.title if method else spec.adapter.method
    ranked = method is not None and "rank" in method.options
    return f"{title} r {spec.adapter.rank}" if ranked else title


def run_title(run: Run) -> str:
    """A run's name with the start of its id, for choosing among runs of the same name."""
    return f"{run.name} · {run.id[:6]}"


def fault(error: CoreError) -> str:
    """HTML of a fault: the cause, and the remedy below it."""
    remedy = f"<span>{escape(error.remedy)}</span>" if error.remedy else ""
    return f'<p class="cxr-fault" role="alert"><b>{escape(error.cause)}</b> {remedy}</p>'
