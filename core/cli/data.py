"""Commands ``data check`` and ``data cache``."""

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

app = typer.Typer(help="Check, cache, subset and register data sets.", no_args_is_help=True)


@app.command("check")
@with_data()
def check_data(
    data: DataSpec,
    metadata_only: Annotated[
        bool,
        typer.Option("--metadata-only", help="Check only lists, labels and files."),
    ] = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Report all problems of a data set; exit code 1 if there are errors."""
    from core.data.checks.check import check
    from core.data.datasets.registry import open_data

    def opener() -> ChestDataset:
        return open_data(data)

    if metadata_only:
        report = check(opener, pixels=False)
    else:
        with bar("images") as progress:
            report = check(opener, progress=progress)
    answer(report.as_json(), as_json, lambda: _print_report(report))
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
            help="Shorter side of the cached images, in pixels: 256 for an input size of 224. By "
            "default that of the embedded backbone.",
        ),
    ] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Decode all images once, before the first run; exit code 1 if some cannot be read."""
    from core.training import warm_cache
    from core.workspace import open_workspace

    with bar("images") as progress:
        made = warm_cache.prepare_all(data, open_workspace(folder).cache, side, progress)
    answer(made.as_json(), as_json, lambda: _print_cached(made))
    raise typer.Exit(1 if made.unreadable else 0)


def _print_cached(made: CacheSummary) -> None:
    typer.echo(
        f"{made.pictures:,} images with a shorter side of {made.side} px, {made.made:,} of them "
        f"decoded now; {made.bytes / 1e6:,.0f} MB in {made.folder}."
    )
    for study, reason in list(made.unreadable.items())[:20]:
        typer.echo(f"cannot be read: {study}: {reason}")
    if len(made.unreadable) > 20:
        typer.echo(f"… and {len(made.unreadable) - 20:,} others; --json lists all of them.")


def _print_report(report: Report) -> None:
    if report.title:
        typer.echo(f"{report.title}, split {report.split}")
    for problem in report.problems:
        typer.echo(f"{'error' if problem.error else 'warning':8}{problem.kind}: {problem.cause}")
        for example in problem.examples:
            typer.echo(f"{'':10}{example}")
        if problem.count > len(problem.examples) > 0:
            typer.echo(f"{'':10}…")
        if problem.remedy:
            typer.echo(f"{'':8}{problem.remedy}")
    typer.echo(report.verdict())
