"""One run: what it is doing, its curves, what came out, and what can be done with it."""

from __future__ import annotations

import json
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from core import formatting
from core.config.command_line import command_line
from core.reporter import MEAN_AUROC, PART_AUROC
from core.resources import memory
from core.runs import queue
from core.runs.curves import Curves
from core.runs.run import MetricRow, Run, RunState
from core.runs.store import Store
from core.workspace import RESULT, Workspace
from explorer.components.run_table import ACTIVE, clock
from explorer.figures.curves import Curve, chart, swatch
from explorer.figures.palette import Style, method_style, state_dot
from explorer.formatting import method_title
from explorer.pages.runs import export

LOG_BYTES = 12_000
STOPPABLE = (RunState.QUEUED, RunState.STARTING, RunState.RUNNING)
RESUMABLE = (RunState.STOPPED, RunState.FAILED, RunState.LOST)
MOST_LABELS = 16
_curves: WeakKeyDictionary[Store, Curves] = WeakKeyDictionary()
"""What was read of each store's curves."""


def detail(store: Store, workspace: Workspace, run: Run, follow: bool) -> str:
    """HTML of one run.

    Args:
        store: Where its metrics are.
        workspace: Where its folder is.
        run: The run.
        follow: Whether the page follows the latest run; the address then names none.
    """
    rows = _curves.setdefault(store, Curves(store)).rows(run)
    folder = workspace.run(run.id)
    address = escape(json.dumps({"run": None if follow else run.id}))
    return (
        f'<section class="cxr-panel" id="run-{escape(run.id)}" data-findings '
        f'aria-label="Run {escape(run.name)}" data-address="{address}">{_head(run)}{_failure(run)}'
        f"{_queue(store, run)}{_progress(run)}{_facts(run, rows, folder)}{_charts(run, rows)}"
        f'<div class="cxr-lower">{_scores(run)}{_log(folder / "log.txt")}</div>'
        f"{_settings(run)}</section>"
    )


def _head(run: Run) -> str:
    return (
        f'<div class="cxr-run-head"><h2>{escape(run.name)}</h2>{state_dot(run.state)}'
        f'<button type="button" class="cxr-button cxr-button-link cxr-mono" data-act="copy" '
        f'data-text="{escape(run.id)}" title="Copy the id">{escape(run.id)}</button>'
        f'<div class="cxr-row">{"".join(_buttons(run))}</div></div>'
    )


def _buttons(run: Run) -> list[str]:
    state, done = run.state, run.state is RunState.COMPLETED
    can_resume = state in RESUMABLE
    idle = state not in ACTIVE
    stop_reason = "It is stopping" if state is RunState.STOPPING else f"It is {state}"
    return [
        _button(run, "stop", "Stop", state in STOPPABLE, stop_reason),
        _button(run, "resume", "Resume", can_resume, f"It is {state}: nothing to resume"),
        _button(run, "new", "New from this run", True, ""),
        _button(run, "compare", "Compare", done, "Only completed runs can be compared"),
        _button(run, "saliency", "Saliency", done, "The run has no finished model yet"),
        export.menu(run),
        _button(
            run, "delete", "Delete", idle, "Stop it first",
            confirm=f"Delete “{run.name}” with its weights, curves and predictions? "
            "This cannot be undone.",
        ),
    ]  # fmt: skip


def _button(run: Run, act: str, label: str, possible: bool, reason: str, confirm: str = "") -> str:
    more = f' data-confirm="{escape(confirm)}" data-confirm-label="{label}"' if confirm else ""
    tone = " cxr-button-bad" if act == "delete" else ""
    off = "" if possible else f' disabled title="{escape(reason)}"'
    return (
        f'<button type="button" class="cxr-button{tone}" data-act="{act}" '
        f'data-run="{escape(run.id)}"{more}{off}>{label}</button>'
    )


def _failure(run: Run) -> str:
    if run.state not in (RunState.FAILED, RunState.LOST) or not run.failure_reason:
        return ""
    remedy = f"<span>{escape(run.failure_remedy)}</span>" if run.failure_remedy else ""
    trace = ""
    if run.traceback:
        trace = (
            "<details><summary>Technical details</summary>"
            f'<pre class="cxr-log">{escape(run.traceback)}</pre></details>'
        )
    return (
        f'<div class="cxr-fault" role="alert"><b>{escape(run.failure_reason)}</b>{remedy}{trace}'
        "</div>"
    )


def _queue(store: Store, run: Run) -> str:
    """A queued run's place, what it waits for, and the ways to change both."""
    if run.state is not RunState.QUEUED:
        return ""
    line = store.queued_ids()
    at = line.index(run.id) if run.id in line else 0
    words = f"Number {at + 1} of {len(line)} in the queue. "
    words += queue.waiting_reason(store, run) or "It starts as soon as a slot is free."
    first, last = at == 0, at == len(line) - 1
    buttons = [
        _move(run, "first", "Move to the front", not first, "It is the first"),
        _move(run, "up", "Earlier", not first, "It is the first"),
        _move(run, "down", "Later", not last, "It is the last"),
    ]
    if run.after is not None:
        buttons.append(_button(run, "release", "Wait for nothing", True, ""))
    return (
        f'<div class="cxr-row" id="queue-place"><p class="cxr-muted">{escape(words)}</p>'
        f"{''.join(buttons)}</div>"
    )


def _move(run: Run, where: str, label: str, possible: bool, reason: str) -> str:
    button = _button(run, "move", label, possible, reason)
    return button.replace(' data-act="move"', f' data-act="move" data-where="{where}"')


def _progress(run: Run) -> str:
    if run.state not in ACTIVE:
        return ""
    share = 100 * (run.progress or 0.0)
    words = [f"{share:.0f}%", escape(run.phase or "")]
    if run.seconds_left is not None:
        words.append(f"{formatting.duration(run.seconds_left)} left")
    return (
        f'<div class="cxr-bar" role="progressbar" aria-valuenow="{share:.0f}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-label="Progress"><i style="width:{share:.1f}%"></i></div>'
        f'<p class="cxr-muted cxr-small">{" · ".join(word for word in words if word)}</p>'
    )


def _facts(run: Run, rows: list[MetricRow], folder: Path) -> str:
    means = [row for row in rows if row.name == MEAN_AUROC]
    parts = [row for row in rows if row.name == PART_AUROC and row.value == row.value]
    facts = []
    if run.best_auroc is not None:
        best = max(means, key=lambda row: row.value, default=None)
        where = f" at epoch {best.epoch:g}" if best else ""
        facts.append(("best validation AUROC", formatting.auroc(run.best_auroc) + where))
        facts.append(("last", formatting.auroc(run.last_auroc)))
    elif parts:
        best = max(parts, key=lambda row: row.value)
        words = f"{formatting.auroc(best.value)} at epoch {best.epoch:g}"
        facts.append(("best AUROC on a part of the validation split", words))
    test = (run.scores or {}).get("test") or {}
    if test.get("auroc") is not None:
        facts.insert(0, ("test AUROC", formatting.auroc(test["auroc"])))
    if run.trainable and run.total:
        facts.append(
            (
                "trains",
                f"{formatting.share(run.trainable / run.total)} "
                f"({formatting.number(run.trainable)} of {formatting.number(run.total)})",
            )
        )
    if run.device:
        facts.append(("on", escape(run.device)))
    if run.state is RunState.COMPLETED and (folder / RESULT).exists():
        said = memory.memory_message(json.loads((folder / RESULT).read_text()))
        facts += [("memory", said)] if said else []
    if run.attempts > 1:
        facts.append(("attempts", str(run.attempts)))
    cells = [f"<span>{name} <b>{value}</b></span>" for name, value in facts]
    cells.append(f"<span>wall time <b>{clock(run)}</b></span>")
    return f'<div class="cxr-facts">{"".join(cells)}</div>'


def _charts(run: Run, rows: list[MetricRow]) -> str:
    if not rows and run.state not in ACTIVE:
        return ""
    style = method_style(run.spec.adapter.method)
    return (
        f'<div class="cxr-charts">{_auroc_chart(run, rows, style)}{_loss_chart(run, rows, style)}'
        "</div>"
    )


def _curve(rows: list[MetricRow], metric: str, name: str, style: Style | None) -> Curve:
    chosen = [row for row in rows if row.name == metric and row.value == row.value]
    return Curve(name, [row.epoch for row in chosen], [row.value for row in chosen], style)


def _auroc_chart(run: Run, rows: list[MetricRow], style: Style) -> str:
    whole, part = (_curve(rows, name, "mean", style) for name in (MEAN_AUROC, PART_AUROC))
    mean, metric = (part, PART_AUROC) if part.y else (whole, MEAN_AUROC)
    names = sorted({row.name for row in rows if row.name.startswith(f"{metric}/")})
    curves = [_curve(rows, name, _words(name.removeprefix(f"{metric}/")), None) for name in names]
    curves = [] if len(names) == 1 else curves
    if len(curves) <= MOST_LABELS:
        curves = [replace(one, label=one.name) for one in curves]
    mean = replace(mean, label="mean" if curves else "")
    described, title = "Validation AUROC: no values yet", "Validation AUROC, mean and findings"
    if mean.y:
        described = (
            f"Validation AUROC over {mean.x[-1]:g} epochs: mean from {mean.y[0]:.3f} to "
            f"{mean.y[-1]:.3f}, best {max(mean.y):.3f}, and {len(curves)} findings"
        )
    if part.y:
        title += "; on a part of the split"
        described += "; on a part of the split"
        if whole.y:
            title += ", dots: the mean on all of it"
            described += f"; the best mean on all of it is {max(whole.y):.3f}"
        for x, y in zip(whole.x, whole.y, strict=True):
            curves.append(Curve("mean on all", [x], [y], style))
    return chart(
        [mean, *curves],
        title=title,
        description=described,
        epochs=run.spec.train.epochs,
        bounds=(None, 1.0),
    )


def _loss_chart(run: Run, rows: list[MetricRow], style: Style) -> str:
    validation = Style("#8A94A6", "", "circle")
    train = _curve(rows, "train/loss", "training", style)
    val = _curve(rows, "val-part/loss", "validation, a part", validation)
    val = val if val.y else _curve(rows, "val/loss", "validation", validation)
    curves = [replace(one, label=one.name) for one in (train, val)]
    last = f", last {train.y[-1]:.4f}" if train.y else ""
    return chart(
        curves,
        title="Loss",
        description=f"Training and validation loss{last}",
        epochs=run.spec.train.epochs,
        digits=4,
    )


def _words(finding: str) -> str:
    return finding.replace("_", " ")


def _scores(run: Run) -> str:
    scores = run.scores or {}
    test, val = scores.get("test") or {}, scores.get("val") or {}
    shown = test or val
    heading = f"AUROC per finding, {'test' if test else 'validation'} split"
    if not shown.get("per_finding"):
        pending = run.state in (RunState.QUEUED, *ACTIVE)
        waiting = "They are computed when the training is done." if pending else ""
        return (
            '<div><h3>Test AUROC per finding</h3><p class="cxr-muted cxr-small">'
            f"{waiting or 'None.'}</p></div>"
        )
    rows = "".join(
        _score_row(finding, value, (val.get("per_finding") or {}).get(finding), run)
        for finding, value in shown["per_finding"].items()
    )
    mean = _score_row("Mean", shown.get("auroc"), val.get("auroc"), run, strong=True)
    return (
        f'<div><h3>{heading}</h3><div class="cxr-scroll"><table class="cxr-table">'
        '<thead><tr><th>Finding</th><th class="cxr-num">'
        f'{"Test" if test else "Validation"}</th><th aria-hidden="true"></th>'
        f'<th class="cxr-num">Validation</th></tr></thead><tbody>{rows}{mean}</tbody></table></div>'
        "</div>"
    )


def _score_row(
    finding: str, value: float | None, validation: float | None, run: Run, strong: bool = False
) -> str:
    style = method_style(run.spec.adapter.method)
    name = escape(_words(finding))
    share = 0.0 if value is None else max(0.0, min(1.0, (value - 0.5) * 2))
    bar = (
        '<div class="cxr-bar" aria-hidden="true" title="from 0.5, chance, to 1">'
        f'<i style="width:{100 * share:.1f}%;background:{style.colour}"></i></div>'
    )
    shown, other = formatting.auroc(value), formatting.auroc(validation)
    marked = "" if strong else f' data-finding="{name}"'
    if strong:
        name, shown = f"<b>{name}</b>", f"<b>{shown}</b>"
    return (
        f'<tr{marked}><td>{name}</td><td class="cxr-num">{shown}</td>'
        f'<td style="width:34%">{bar}</td><td class="cxr-num cxr-muted">{other}</td></tr>'
    )


def _log(file: Path) -> str:
    text = tail(file)
    if not text:
        return '<div><h3>Log</h3><p class="cxr-muted cxr-small">Nothing written yet.</p></div>'
    return (
        "<div><h3>Log</h3>"
        '<pre class="cxr-log" data-follow tabindex="0" aria-label="End of the log">'
        f"{escape(text)}</pre></div>"
    )


def tail(file: Path, size: int = LOG_BYTES) -> str:
    """The last whole lines of a text file; empty if there is none."""
    try:
        with file.open("rb") as stream:
            stream.seek(0, 2)
            length = stream.tell()
            stream.seek(max(0, length - size))
            data = stream.read()
    except OSError:
        return ""
    if length > size:
        data = data.split(b"\n", 1)[-1]
    return data.decode("utf-8", "replace").rstrip()


def _settings(run: Run) -> str:
    spec: dict[str, Any] = json.loads(run.spec.to_json())
    rows = "".join(
        f"<tr><td>{section}.{name}</td><td class='cxr-mono'>{escape(str(value))}</td></tr>"
        for section, fields in spec.items()
        for name, value in fields.items()
        if value is not None
    )
    line = escape(command_line(run.spec))
    identity = f"command-{escape(run.id)}"
    return (
        f"<details data-key='settings'><summary>All settings and the command</summary>"
        f'<div class="cxr-headline"><code class="cxr-command" id="{identity}">{line}</code>'
        f'<button type="button" class="cxr-button" data-act="copy" data-from="{identity}">Copy'
        f'</button></div><div class="cxr-scroll"><table class="cxr-table">{rows}</table></div>'
        "</details>"
    )


def legend(run: Run) -> str:
    """HTML of a run's curve and method, to stand before its name."""
    return f"{swatch(method_style(run.spec.adapter.method))}{escape(method_title(run.spec))}"
