"""Verbs on a whole data set: check it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from core.commands.answers import AsJson, answer
from core.commands.settings import with_data
from core.spec import DataSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.data.base import ChestDataset
    from core.data.report import Report

app = typer.Typer(help="Check, cache, compare and name whole data sets.", no_args_is_help=True)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
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
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@app.command("check")
@with_data()
def check_data(
    data: DataSpec,
    metadata_only: Annotated[
        bool, typer.Option("--metadata-only", help="Decode no picture: lists, labels, files.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say everything that is wrong with a data set at once; exit code 1 if there are errors."""
    from core.data import checks
    from core.data.catalogue import open_data

    def opener() -> ChestDataset:
        return open_data(data)

    if metadata_only:
        report = checks.check(opener, pixels=False)
    else:
        with _bar("pictures") as progress:
            report = checks.check(opener, progress=progress)
    answer(report.as_json(), as_json, lambda: _print(report))
    raise typer.Exit(1 if report.errors else 0)


def _print(report: Report) -> None:
    if report.title:
        typer.echo(f"{report.title}, split {report.split}")
    for fault in report.faults:
        typer.echo(f"{'error' if fault.error else 'warning':8}{fault.kind}: {fault.cause}")
        for one in fault.examples:
            typer.echo(f"{'':10}{one}")
        if fault.count > len(fault.examples) > 0:
            typer.echo(f"{'':10}…")
        if fault.remedy:
            typer.echo(f"{'':8}{fault.remedy}")
    typer.echo(report.verdict())
