"""One run: its state, curves, scores, log and settings, and the actions on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from markupsafe import Markup

from core.config.command_line import command_line
from core.evaluation.groups import same_but_seed
from core.formatting import auroc, number, share
from core.reporter import MEAN_AUROC, PART_AUROC
from core.resources.memory import memory_message
from core.runs import queue
from core.runs.curves import Curves
from core.runs.run import ACTIVE, MetricRow, Run, RunState
from core.runs.store import LOG, Store
from core.workspace import RESULT, Workspace
from explorer.figures.palette import method_style, state_dot
from explorer.pages.runs.curves import auroc_chart, loss_chart
from explorer.pages.runs.export import FORMATS
from explorer.templates import render

LOG_BYTES = 12_000
STOPPABLE = (RunState.QUEUED, RunState.STARTING, RunState.RUNNING)
RESUMABLE = (RunState.STOPPED, RunState.FAILED, RunState.LOST)

_curve_readers: WeakKeyDictionary[Store, Curves] = WeakKeyDictionary()
"""The reader of each store's curves, which remembers what it has read."""


@dataclass(frozen=True)
class Action:
    """A button of the page.

    Attributes:
        name: What the page is asked to do, as in ``RunsPage.act``.
        label: Text of the button.
        possible: Whether the button is enabled.
        reason: Why it is not.
        where: For ``move``, the new place in the queue: ``first``, ``up`` or ``down``.
        question: Asked for confirmation first; empty asks nothing.
    """

    name: str
    label: str
    possible: bool = True
    reason: str = ""
    where: str = ""
    question: str = ""


@dataclass(frozen=True)
class ScoreRow:
    """A row of the table of scores.

    Attributes:
        finding: Name of the finding; empty for the mean.
        value: AUROC on the split that is shown; None if it is not defined.
        validation: AUROC on the validation split.
    """

    finding: str
    value: float | None
    validation: float | None

    @property
    def percent(self) -> float:
        """Length of the bar: 0 at an AUROC of 0.5, 100 at 1."""
        return 0.0 if self.value is None else 100 * max(0.0, min(1.0, (self.value - 0.5) * 2))


def detail(store: Store, workspace: Workspace, run: Run, follow: bool) -> Markup:
    """HTML of one run; its address names no run if the page follows the latest one."""
    curves = _curve_readers.setdefault(store, Curves(store))
    rows = curves.rows(run)
    folder = workspace.run(run.id)
    active = run.state in ACTIVE
    return render(
        "pages/runs/detail.html.j2",
        run=run,
        active=active,
        address=json.dumps({"run": None if follow else run.id}),
        state=state_dot(run.state),
        actions=_actions(run),
        formats=FORMATS,
        failed=run.state in (RunState.FAILED, RunState.LOST) and bool(run.failure_reason),
        queue=_queue(store, run),
        facts=_facts(run, rows, folder),
        charts=[
            auroc_chart(run, rows, [curves.rows(each) for each in _other_seeds(store, run)]),
            loss_chart(run, rows),
        ]
        if rows or active
        else [],
        scores=_scores(run),
        colour=method_style(run.spec.adapter.method).colour,
        log=tail(folder / LOG),
        settings=_settings(run),
        command=command_line(run.spec),
    )


def _other_seeds(store: Store, run: Run) -> list[Run]:
    """Completed runs that differ from this one only in the seed, one for each other seed."""
    alike = [
        other
        for other in reversed(store.list(states=[RunState.COMPLETED]))
        if other.spec.adapter == run.spec.adapter
        and same_but_seed(other.spec) == same_but_seed(run.spec)
    ]
    by_seed = {other.spec.train.seed: other for other in alike}
    by_seed.pop(run.spec.train.seed, None)
    return list(by_seed.values())


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


def _actions(run: Run) -> list[Action]:
    """The buttons after the run's name, except the menu of exports."""
    state = run.state
    completed = state is RunState.COMPLETED
    question = (
        f"Delete “{run.name}” with its weights, curves and predictions? This cannot be undone."
    )
    return [
        Action("stop", "Stop", state in STOPPABLE, "Only queued and running runs can be stopped"),
        Action(
            "resume",
            "Resume",
            state in RESUMABLE,
            "Only stopped, failed and lost runs can be resumed",
        ),
        Action("new", "New from this run"),
        Action("compare", "Compare", completed, "Only completed runs can be compared"),
        Action("saliency", "Saliency", completed, "The run has no trained model yet"),
        Action("delete", "Delete", state not in ACTIVE, "Stop the run first", question=question),
    ]


def _queue(store: Store, run: Run) -> dict[str, Any] | None:
    """A queued run's place, what it waits for, and the buttons that change both."""
    if run.state is not RunState.QUEUED:
        return None
    line = store.queued_ids()
    place = line.index(run.id) if run.id in line else 0
    is_first, is_last = place == 0, place == len(line) - 1
    actions = [
        Action("move", "Move to the front", not is_first, "Already the first", where="first"),
        Action("move", "Earlier", not is_first, "Already the first", where="up"),
        Action("move", "Later", not is_last, "Already the last", where="down"),
    ]
    if run.after is not None:
        actions.append(Action("release", "Do not wait for the other run"))
    reason = queue.waiting_reason(store, run) or "It starts as soon as a slot is free."
    return {"place": place + 1, "length": len(line), "reason": reason, "actions": actions}


def _facts(run: Run, rows: Sequence[MetricRow], folder: Path) -> list[tuple[str, str]]:
    """Short results as name and value, without the wall time."""
    facts = []
    test = (run.scores or {}).get("test") or {}
    if test.get("auroc") is not None:
        facts.append(("test AUROC", auroc(test["auroc"])))
    whole, part = _best(rows, MEAN_AUROC), _best(rows, PART_AUROC)
    if run.best_auroc is not None:
        epoch = f" at epoch {whole.epoch:g}" if whole else ""
        facts.append(("best validation AUROC", auroc(run.best_auroc) + epoch))
        facts.append(("last", auroc(run.last_auroc)))
    elif part:
        value = f"{auroc(part.value)} at epoch {part.epoch:g}"
        facts.append(("best AUROC on part of the validation split", value))
    if run.trainable and run.total:
        counts = f"{number(run.trainable)} of {number(run.total)}"
        facts.append(("trainable parameters", f"{share(run.trainable / run.total)} ({counts})"))
    if run.device:
        facts.append(("device", run.device))
    result = folder / RESULT
    if run.state is RunState.COMPLETED and result.exists():
        memory = memory_message(json.loads(result.read_text(encoding="utf-8")))
        facts += [("memory", memory)] if memory else []
    if run.attempts > 1:
        facts.append(("attempts", str(run.attempts)))
    return facts


def _best(rows: Sequence[MetricRow], metric: str) -> MetricRow | None:
    known = [row for row in rows if row.name == metric and row.value == row.value]  # not NaN
    return max(known, key=lambda row: row.value, default=None)


def _scores(run: Run) -> dict[str, Any]:
    """AUROC per finding on the test split, or on the validation split while there is no other."""
    scores = run.scores or {}
    test, validation = scores.get("test") or {}, scores.get("val") or {}
    split = test or validation
    by_finding = validation.get("per_finding") or {}
    rows = [
        ScoreRow(finding.replace("_", " "), value, by_finding.get(finding))
        for finding, value in (split.get("per_finding") or {}).items()
    ]
    if rows:
        rows.append(ScoreRow("", split.get("auroc"), validation.get("auroc")))
    return {
        "split": "Test" if test or not rows else "Validation",
        "rows": rows,
        "pending": run.state is RunState.QUEUED or run.state in ACTIVE,
    }


def _settings(run: Run) -> list[tuple[str, str]]:
    """Every setting of the run that has a value, by dotted name."""
    sections: dict[str, dict[str, Any]] = json.loads(run.spec.to_json())
    return [
        (f"{section}.{name}", str(value))
        for section, fields in sections.items()
        for name, value in fields.items()
        if value is not None
    ]
