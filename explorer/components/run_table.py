"""The table of runs: one row each, the latest first."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from weakref import WeakKeyDictionary

from core import formatting
from core.config.run import RunSpec
from core.reporter import MEAN_AUROC, PART_AUROC
from core.runs.run import Run, RunState
from core.runs.store import Store
from explorer.figures.curves import spark, swatch
from explorer.figures.palette import method_style, state_dot
from explorer.formatting import method_title

ACTIVE = (RunState.STARTING, RunState.RUNNING, RunState.STOPPING)
EMPTY = (
    '<div class="cxr-panel cxr-empty"><p><b>No runs yet</b>LoRA on synthetic radiographs, start to '
    'test AUROC in about a minute.</p><button type="button" class="cxr-button cxr-button-main" '
    'data-act="example">Start the 60-second example</button></div>'
)


def latest(runs: Sequence[Run]) -> Run | None:
    """The run to follow: the active one that started last, else the one made last."""
    active = [run for run in runs if run.state in ACTIVE]
    if active:
        return max(active, key=lambda run: run.started_at or run.created_at)
    return max(runs, key=lambda run: run.created_at, default=None)


def table(store: Store, runs: Sequence[Run], selected: str | None, follow: bool) -> str:
    """HTML of all runs.

    Args:
        store: Where their curves are.
        runs: The runs, in the order in which they are shown.
        selected: Id of the run shown below.
        follow: Whether the page follows the latest run.
    """
    if not runs:
        return EMPTY
    counts = [f"{sum(run.state in ACTIVE for run in runs)} active"]
    waiting = sum(run.state is RunState.QUEUED for run in runs)
    if waiting:
        counts.append(f"{waiting} queued")
    counts.append(f"{len(runs)} in all")
    curves = validation(store, runs)
    line = store.queued_ids() if waiting else ()
    places = {one: f"{i} of {len(line)} in line" for i, one in enumerate(line, 1)}
    body = "".join(
        _row(run, curves[run.id], run.id == selected, places.get(run.id, "–")) for run in runs
    )
    pressed = "true" if follow else "false"
    return (
        '<div class="cxr-panel cxr-runs"><div class="cxr-headline" style="margin-top:0">'
        '<h2 class="cxr-head">Runs '
        f'<span class="cxr-muted cxr-light">{", ".join(counts)}</span></h2>'
        f'<button type="button" class="cxr-button" data-act="follow" aria-pressed="{pressed}">'
        "Follow latest</button></div>"
        '<div class="cxr-scroll cxr-list"><table class="cxr-table" aria-label="Runs">'
        '<thead><tr><th>State</th><th>Name</th><th class="cxr-wide">Data</th>'
        '<th class="cxr-wide">Backbone</th><th class="cxr-mid">Method</th>'
        '<th class="cxr-num cxr-mid">Labels</th><th>Best AUROC</th><th>Progress</th>'
        '<th class="cxr-num cxr-mid">Wall time</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div></div>"
    )


def _row(run: Run, values: Sequence[float], selected: bool, place: str) -> str:
    spec, style = run.spec, method_style(run.spec.adapter.method)
    curve = spark(list(values), style)
    current = ' aria-current="true"' if selected else ""
    return (
        f'<tr id="row-{escape(run.id)}" data-act="open" data-run="{escape(run.id)}" tabindex="0"'
        f'{current}><td>{state_dot(run.state)}</td><td class="cxr-name">{escape(run.name)}</td>'
        f'<td class="cxr-wide">{escape(spec.data.called or spec.data.name)}</td>'
        f'<td class="cxr-wide">{escape(spec.model.backbone)}</td>'
        f'<td class="cxr-mid">{swatch(style)}{escape(method_title(spec))}</td>'
        f'<td class="cxr-num cxr-mid">{_share(spec)}</td>'
        f'<td style="white-space:nowrap">{formatting.auroc(run.best_auroc)}{curve}</td>'
        f"<td>{progress(run, place)}</td>"
        f'<td class="cxr-num cxr-mid">{clock(run)}</td></tr>'
    )


def progress(run: Run, place: str) -> str:
    """HTML of how far a run is: its place in the queue, or a bar with the time that is left."""
    if run.state is RunState.QUEUED:
        return f'<span class="cxr-muted" title="Place in the queue">{place}</span>'
    if run.state not in ACTIVE:
        return ""
    share = 100 * (run.progress or 0.0)
    left = f"{formatting.duration(run.seconds_left)} left" if run.seconds_left is not None else ""
    words = left or escape(run.phase or "")
    return (
        f'<div class="cxr-bar cxr-bar-row" role="progressbar" aria-valuenow="{share:.0f}" '
        f'aria-valuemin="0" aria-valuemax="100" aria-label="Progress">'
        f'<i style="width:{share:.1f}%"></i></div>'
        f'<span class="cxr-muted cxr-small cxr-words">{share:.0f}% {words}</span>'
    )


def clock(run: Run) -> str:
    """HTML of a run's wall time, which ticks in the browser while the run is active."""
    if run.state in ACTIVE and run.started_at is not None:
        spent = run.seconds or 0.0
        return f'<span data-since="{run.started_at:.1f}" data-spent="{spent:.1f}"></span>'
    return formatting.duration(run.seconds) if run.seconds else "–"


def validation(store: Store, runs: Sequence[Run]) -> dict[str, list[float]]:
    """The validation AUROC of runs by epoch, by id; kept for runs that have ended.

    Of runs that validate by budget it is that on the part that they score in training.
    """
    keys = {run.id: (run.id, run.finished_at) for run in runs}
    kept = _ended.setdefault(store, {})
    new = [run.id for run in runs if keys[run.id] not in kept]
    found = store.curves(new, PART_AUROC) if new else {}
    whole = [one for one in new if not found[one]]
    found |= store.curves(whole, MEAN_AUROC) if whole else {}
    ended = (RunState.COMPLETED, RunState.STOPPED, RunState.FAILED, RunState.LOST)
    fresh = {keys[run.id]: found[run.id] for run in runs if run.id in found and run.state in ended}
    kept.update(fresh)
    return {name: found[name] if name in found else kept[key] for name, key in keys.items()}


_ended: WeakKeyDictionary[Store, dict[tuple[str, float | None], list[float]]] = WeakKeyDictionary()
"""The curves of runs that will not change, by store, id and end."""


def _share(spec: RunSpec) -> str:
    listed = spec.data.split_file
    if listed is None:
        return formatting.share(spec.data.label_fraction)
    return f'<span title="{escape(str(listed))}">list</span>'
