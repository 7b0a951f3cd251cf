"""How a verb answers: one JSON value, or a text for people; progress on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.formatting import DISCLAIMER

if TYPE_CHECKING:
    from core.runs.store import Run, Store
    from core.workspace import Workspace

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]
RunName = Annotated[str, typer.Argument(help="Id, start of an id, or name of a run.")]
Folder = Annotated[
    Path | None,
    typer.Option("--workspace", envvar="CXR_WORKSPACE", help="Where runs and caches are kept."),
]


def opened(folder: Path | None) -> tuple[Workspace, Store]:
    """A workspace and its store, made if there are none."""
    from core.runs.store import open_store
    from core.workspace import open_workspace

    workspace = open_workspace(folder)
    return workspace, open_store(workspace, create=True)


def answer(value: Any, as_json: bool, human: Callable[[], None]) -> None:
    """Print a value as JSON, or let ``human`` print it."""
    if as_json:
        typer.echo(json.dumps(value, default=str, allow_nan=False))
    else:
        human()


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print rows of texts in columns as wide as they need."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def score(value: float | None) -> str:
    """An AUROC with three decimals; a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, moved by (done, total)."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def summary(run: Run) -> dict[str, Any]:
    """A run in a few fields."""
    spec = run.spec
    return {
        "id": run.id,
        "name": run.name,
        "state": str(run.state),
        "data": spec.data.called or spec.data.name,
        "backbone": spec.model.backbone,
        "method": spec.adapter.method,
        "label_fraction": spec.data.label_fraction,
        "seed": spec.train.seed,
        "progress": run.progress,
        "phase": run.phase,
        "seconds_left": run.seconds_left,
        "seconds": run.seconds,
        "best_auroc": run.best_auroc,
        "last_auroc": run.last_auroc,
        "test_auroc": _test_auroc(run),
        "trainable": run.trainable,
        "total": run.total,
        "failure": run.failure_reason,
    }


def _test_auroc(run: Run) -> float | None:
    value: float | None = ((run.scores or {}).get("test") or {}).get("auroc")
    return value


def run_details(run: Run) -> dict[str, Any]:
    """A run with all that its record holds."""
    return summary(run) | {
        "spec": json.loads(run.spec.to_json()),
        "scores": run.scores,
        "environment": run.environment,
        "failure_kind": run.failure_kind,
        "failure_remedy": run.failure_remedy,
        "traceback": run.traceback,
        "attempts": run.attempts,
        "exit_code": run.exit_code,
        "host": run.host,
        "pid": run.pid,
        "heartbeat_at": run.heartbeat_at,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "priority": run.priority,
        "after": run.after,
        "slot": run.slot,
        "log": run.log,
    }


def print_scores(run: Run) -> None:
    """Print AUROC by finding and split."""
    scores = run.scores or {}
    findings = list((scores.get("test") or scores.get("val") or {}).get("per_finding", {}))
    columns = [split for split in ("val", "test") if split in scores]
    rows = [
        (finding, *(score(scores[split]["per_finding"][finding]) for split in columns))
        for finding in findings
    ]
    if rows:
        rows.append(("mean", *(score(scores[split]["auroc"]) for split in columns)))
        table(("finding", *(f"{split} AUROC" for split in columns)), rows)
    typer.echo(f"{DISCLAIMER}.")
