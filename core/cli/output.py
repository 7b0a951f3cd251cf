"""How a verb answers: one JSON value, or a text for people; progress on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
