"""The command ``saliency-report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.output import AsJson, Folder, answer, bar, opened, table
from core.formatting import DISCLAIMER

if TYPE_CHECKING:
    from core.config.run import DataSpec
    from core.runs.run import Run
    from core.saliency.report.report import Report
    from core.workspace import Workspace


def saliency_report(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Ids, prefixes of ids, or names; the first is compared with the others."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.md and the tables.")],
    data: Annotated[
        str | None, typer.Option(help="Data set of the studies; by default that of the first run.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of that data set.")] = None,
    split: Annotated[
        str, typer.Option(help="train, val, test, several such as val,test, or all.")
    ] = "test",
    findings: Annotated[
        str | None, typer.Option(help="Findings, separated by commas; by default all.")
    ] = None,
    methods: Annotated[
        str, typer.Option(help="Saliency methods, separated by commas.")
    ] = "grad-cam,centre-gaussian",
    most: Annotated[
        int | None, typer.Option("--studies", min=1, help="Maximum number of studies per finding.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Pixels around the region that still count as a hit.")
    ] = 0,
    counterfactual: Annotated[
        bool,
        typer.Option("--counterfactual", help="Compare with the true counterfactual (phantoms)."),
    ] = False,
    check: Annotated[
        int,
        typer.Option(
            min=0,
            help="Studies per finding for insertion, deletion, ROAD, stability and sanity check.",
        ),
    ] = 0,
    with_seen: Annotated[
        bool, typer.Option("--with-seen", help="Keep patients that a run was trained on.")
    ] = False,
    sheet: Annotated[
        int,
        typer.Option(
            min=0, max=20, help="Number of best and of worst studies on the contact sheets."
        ),
    ] = 10,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Compare where runs look with boxes or masks: tables, differences and contact sheets."""
    from core.data.base import SPLITS
    from core.data.datasets.registry import open_data
    from core.saliency.report import render, report
    from core.saliency.scores.score_maps import ScoringOptions

    workspace, store = opened(folder)
    by_name = _by_name([store.get(run) for run in dict.fromkeys(runs)])
    spec = _source(store.get(runs[0]), workspace, data, root)
    dataset = open_data(spec)
    loaded = report.load({name: workspace.run(run.id) for name, run in by_name.items()})
    known = [f for f in dataset.findings if any(f in run.trained.findings for run in loaded)]
    options = ScoringOptions(
        findings=_names(findings) if findings else tuple(known or dataset.findings),
        methods=_names(methods),
        split=SPLITS if split == "all" else _names(split),
        most=most,
        tolerance=tolerance,
        counterfactual=counterfactual,
        with_seen=with_seen,
    )
    with bar("maps") as progress:
        made = report.make(
            loaded, dataset, spec, options, check=check, shown=sheet, progress=progress
        )
    files = render.write(made, out)
    value = render.as_json(made) | {"files": [str(file) for file in files]}
    answer(value, as_json, lambda: _print(made, files))


def _by_name(runs: list[Run]) -> dict[str, Run]:
    """Runs by name; equal names get the id as a suffix."""
    names = [run.name for run in runs]
    return {
        run.name if names.count(run.name) == 1 else f"{run.name} ({run.id})": run for run in runs
    }


def _source(run: Run, workspace: Workspace, data: str | None, root: Path | None) -> DataSpec:
    from core.config.run import DataSpec
    from core.data.datasets.registered import resolved

    if data is None:
        own = run.spec.data.source()
        return own if root is None else own.model_copy(update={"root": root})
    folder = None if root is None else root.expanduser().absolute()
    return resolved(workspace, DataSpec(name=data, root=folder)).source()


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _print(made: Report, files: list[Path]) -> None:
    from core.saliency.report import render

    for part in render.tables(made)[:2]:
        typer.echo(part.title)
        table(part.head, part.rows)
        typer.echo("")
    for note in made.notes:
        typer.echo(note)
    typer.echo("Written: " + ", ".join(str(file) for file in files))
    typer.echo(f"{DISCLAIMER}.")
