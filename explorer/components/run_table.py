"""The table of runs: one row per run, the latest first."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from markupsafe import Markup

from core.reporter import MEAN_AUROC, PART_AUROC
from core.runs.run import ACTIVE, Run, RunState
from core.runs.store import Store
from explorer.figures.palette import method_style, state_dot
from explorer.formatting import method_title
from explorer.templates import render

_ended_curves: WeakKeyDictionary[Store, dict[tuple[str, float | None], list[float]]] = (
    WeakKeyDictionary()
)
"""Curves of runs that have ended and no longer change: by store, then by id and end time."""


def latest(runs: Sequence[Run]) -> Run | None:
    """The run to follow: the active run that started last, or else the newest run."""
    active = [run for run in runs if run.state in ACTIVE]
    if active:
        return max(active, key=lambda run: run.started_at or run.created_at)
    return max(runs, key=lambda run: run.created_at, default=None)


def table(store: Store, runs: Sequence[Run], selected: str | None, follow: bool) -> Markup:
    """HTML of all runs with their curves; ``follow`` tells whether the latest run is followed."""
    active = sum(run.state in ACTIVE for run in runs)
    queued = sum(run.state is RunState.QUEUED for run in runs)
    counts = [f"{active} active", f"{queued} queued" if queued else "", f"{len(runs)} in total"]
    line = store.queued_ids() if queued else ()
    return render(
        "components/run_table.html.j2",
        runs=runs,
        selected=selected,
        follow=follow,
        active=ACTIVE,
        counts=[count for count in counts if count],
        places={name: f"{place} of {len(line)} in queue" for place, name in enumerate(line, 1)},
        curves=validation_curves(store, runs) if runs else {},
        method_style=method_style,
        method_title=method_title,
        spark=_spark,
        state_dot=state_dot,
    )


def _spark(values: Sequence[float]) -> list[tuple[float, float]]:
    """Points of a spark line in a box of 76 × 20 px; none for fewer than two values."""
    if len(values) < 2:
        return []
    low, high = min(values), max(values)
    step, span = 70 / (len(values) - 1), (high - low) or 1.0
    return [(3 + i * step, 17 - (value - low) / span * 14) for i, value in enumerate(values)]


def validation_curves(store: Store, runs: Sequence[Run]) -> dict[str, list[float]]:
    """Validation AUROC by epoch for each run, by id; cached for runs that have ended.

    Runs that validate on part of the validation split during training give their AUROC on that
    part.
    """
    keys = {run.id: (run.id, run.finished_at) for run in runs}
    cache = _ended_curves.setdefault(store, {})
    missing = [run.id for run in runs if keys[run.id] not in cache]
    curves = store.curves(missing, PART_AUROC) if missing else {}
    without_part = [name for name in missing if not curves[name]]
    curves |= store.curves(without_part, MEAN_AUROC) if without_part else {}
    ended = {run.id for run in runs if run.state not in {RunState.QUEUED, *ACTIVE}}
    cache.update({keys[name]: curve for name, curve in curves.items() if name in ended})
    return {name: curves[name] if name in curves else cache[key] for name, key in keys.items()}
