"""How a verb answers: one JSON value, or a text for people; progress on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]
Folder = Annotated[
    Path | None,
    typer.Option("--workspace", envvar="CXR_WORKSPACE", help="Where runs and caches are kept."),
]


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
