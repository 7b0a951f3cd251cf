"""Verbs on a whole data set: check it, cache it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.options import with_data
from core.cli.output import AsJson, Folder, answer, bar
from core.config.run import DataSpec

if TYPE_CHECKING:
    from core.data.base import ChestDataset
    from core.data.checks.report import Report
    from core.training.warm_cache import CacheSummary

app = typer.Typer(help="Check, cache, compare and name whole data sets.", no_args_is_help=True)


@app.command("check")
@with_data()
def check_data(
    data: DataSpec,
    metadata_only: Annotated[
        bool, typer.Option("--metadata-only", help="Decode no picture: lists, labels, files.")
    ] = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Say everything that is wrong with a data set at once; exit code 1 if there are errors."""
    from core.data.checks import check as checks
    from core.data.datasets.registry import open_data

    def opener() -> ChestDataset:
        return open_data(data)

    if metadata_only:
        report = checks.check(opener, pixels=False)
    else:
        with bar("pictures") as progress:
            report = checks.check(opener, progress=progress)
    answer(report.as_json(), as_json, lambda: _print(report))
    raise typer.Exit(1 if report.errors else 0)


@app.command("cache")
@with_data()
def cache_data(
    data: DataSpec,
    side: Annotated[
        int | None,
        typer.Option(
            min=16,
            max=4096,
            help="Shorter side of the copies, in pixels: 256 for an input of 224. By default what "
            "the embedded backbone reads.",
        ),
    ] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Decode every picture once, so that no run has to; exit code 1 if some cannot be read."""
    from core.training import warm_cache
    from core.workspace import open_workspace

    with bar("pictures") as progress:
        made = warm_cache.prepare_all(data, open_workspace(folder).cache, side, progress)
    answer(made.as_json(), as_json, lambda: _tell(made))
    raise typer.Exit(1 if made.unreadable else 0)


def _tell(made: CacheSummary) -> None:
    typer.echo(
        f"{made.pictures:,} pictures of a shorter side of {made.side} px, {made.made:,} of them "
        f"made now; {made.bytes / 1e6:,.0f} MB in {made.folder}."
    )
    for study, why in list(made.unreadable.items())[:20]:
        typer.echo(f"cannot be read: {study}: {why}")
    if len(made.unreadable) > 20:
        typer.echo(f"… and {len(made.unreadable) - 20:,} others; --json names them all.")


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
