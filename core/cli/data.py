"""Commands of the group ``data``: check, cache, subset, register, names, forget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.options import with_data
from core.cli.output import AsJson, Folder, answer, bar, table
from core.config.run import DataSpec

if TYPE_CHECKING:
    from core.data.base import ChestDataset
    from core.data.checks.report import Report
    from core.training.warm_cache import CacheSummary

app = typer.Typer(help="Check, cache, subset and register data sets.", no_args_is_help=True)


Name = Annotated[str, typer.Argument(help="Name of the data set.", metavar="NAME")]


@app.command("check")
@with_data()
def check_data(
    data: DataSpec,
    metadata_only: Annotated[
        bool, typer.Option("--metadata-only", help="Check only lists, labels and files.")
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


@app.command("subset")
@with_data()
def write_subset(
    data: DataSpec,
    out: Annotated[Path, typer.Option(help="File to write, as MED-PEFT's split lists.")],
    fraction: Annotated[float, typer.Option(help="Share of the training images.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed that draws the patients.")] = 0,
    part: Annotated[str, typer.Option(help="train, or all of val or test.")] = "train",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Write the studies of a label fraction, or of a split, to a list for --split-file."""
    from core.data import splits
    from core.data.datasets.registry import open_data

    dataset = open_data(data)
    drawn = part == "train"
    ids = splits.subset(dataset, fraction, seed) if drawn else dataset.ids(part)
    splits.write_list(out, dataset, ids)
    value = {
        "images": len(ids),
        "of": len(dataset.ids(part)),
        "patients": int(dataset.table.loc[ids, "patient"].nunique()),
        "positives": splits.positives(dataset, ids),
        "out": str(out),
    }
    answer(value, as_json, lambda: typer.echo(
        f"Wrote {value['images']:,} of {value['of']:,} images of {value['patients']:,} patients "
        f"to {out}."
    ))  # fmt: skip


@app.command("register")
@with_data(positional=False)
def register_data(
    name: Name, data: DataSpec, folder: Folder = None, as_json: AsJson = False
) -> None:
    """Register a data set under a name, so that --data NAME selects its folder and options."""
    from core.data.datasets import registered
    from core.workspace import open_workspace

    dataset = registered.register(open_workspace(folder), name, data)
    answer(dataset.as_json(), as_json, lambda: typer.echo(
        f"Registered {dataset.name}: {dataset.data.name} in {dataset.data.root}."
    ))  # fmt: skip


@app.command("names")
def list_names(folder: Folder = None, as_json: AsJson = False) -> None:
    """List the registered data sets."""
    from core.data.datasets import registered
    from core.workspace import workspace_at

    values = [dataset.as_json() for dataset in registered.names(workspace_at(folder))]
    answer(values, as_json, lambda: table(
        ("name", "data set", "folder", "options"),
        [(row["name"], row["data"], str(row.get("root", "–")), _options(row)) for row in values],
    ))  # fmt: skip


@app.command("forget")
def forget_data(name: Name, folder: Folder = None, as_json: AsJson = False) -> None:
    """Remove a registered name; its folder and its runs are not changed."""
    from core.data.datasets import registered
    from core.workspace import workspace_at

    dataset = registered.forget(workspace_at(folder), name)
    answer({"forgotten": dataset.name}, as_json, lambda: typer.echo(f"Removed {dataset.name}."))


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


def _options(values: dict[str, Any]) -> str:
    options = {key: values[key] for key in values if key not in ("name", "data", "root")}
    return ", ".join(f"{key}={value}" for key, value in options.items())
