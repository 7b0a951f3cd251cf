"""Output of verbs: one JSON value or text on standard output, progress on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import ConfigurationError
from core.formatting import DISCLAIMER, auroc

if TYPE_CHECKING:
    from core.runs.run import Run
    from core.runs.store import Store
    from core.workspace import Workspace

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]
Priority = Annotated[int, typer.Option(help="Runs with a higher priority start first.")]
NewName = Annotated[str | None, typer.Option(help="Name of the run; by default its main settings.")]
RunName = Annotated[str, typer.Argument(help="Id, start of an id, or name of a run.")]
Folds = Annotated[
    int | None,
    typer.Option(
        help="Train one run per fold of a cross-validation over patients, and join their "
        "predictions."
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--workspace", envvar="CXR_WORKSPACE", help="Folder of the store, runs and caches."
    ),
]


def opened(folder: Path | None) -> tuple[Workspace, Store]:
    """Open a workspace and its store, and create them if they do not exist."""
    from core.runs.store import open_store
    from core.workspace import open_workspace

    workspace = open_workspace(folder)
    return workspace, open_store(workspace, create=True)


def answer(value: Any, as_json: bool, print_text: Callable[[], None]) -> None:
    """Print a value as JSON, or call ``print_text``."""
    if as_json:
        typer.echo(json.dumps(value, default=str, allow_nan=False))
    else:
        print_text()


def table(head: tuple[str, ...], rows: list[tuple[str, ...]], *, err: bool = False) -> None:
    """Print rows in columns of the necessary width, on standard output or standard error."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip(), err=err)


def write_text(path: Path, text: str) -> None:
    """Write a file that the user asked for, and print its path on standard error.

    Raises:
        ConfigurationError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror or error}).", "Choose another folder."
        ) from error
    typer.echo(f"Written: {path}", err=True)


@contextmanager
def bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on standard error; yields a function of (done, total)."""
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
        task = shown.add_task(description, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def summary(run: Run) -> dict[str, Any]:
    """The main fields of a run."""
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
        "test_auroc": run.test_auroc,
        "trainable": run.trainable,
        "total": run.total,
        "failure": run.failure_reason,
    }


def run_details(run: Run) -> dict[str, Any]:
    """All fields of a run."""
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
    """Print the AUROC of each finding and split."""
    scores = run.scores or {}
    findings = list((scores.get("test") or scores.get("val") or {}).get("per_finding", {}))
    columns = [split for split in ("val", "test") if split in scores]
    rows = [
        (finding, *(auroc(scores[split]["per_finding"][finding]) for split in columns))
        for finding in findings
    ]
    if rows:
        rows.append(("mean", *(auroc(scores[split]["auroc"]) for split in columns)))
        table(("finding", *(f"{split} AUROC" for split in columns)), rows)
    typer.echo(f"{DISCLAIMER}.")
