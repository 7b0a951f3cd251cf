"""The verb ``paper``: runs the paper's grid and reports which of its claims hold."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.execution import (
    GridProgress,
    choose_settings,
    execute,
    grid_result_json,
    print_grid_result,
)
from core.cli.output import AsJson, Folder, answer, table, write_text
from core.errors import ConfigurationError, CoreError, unknown_name
from core.formatting import duration

if TYPE_CHECKING:
    from core.experiments.paper.grid import CellStatus
    from core.experiments.paper.tables import Report
    from core.experiments.paper.tasks import Task
    from core.experiments.run_grid import GridResult
    from core.runs.store import Store
    from core.workspace import Workspace


Words = list[str] | None
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="List the runs, their time and disk space; run none.")
]
Judge = Annotated[
    bool, typer.Option("--judge", help="Report the results of completed runs; run none.")
]
Tuned = Annotated[
    bool,
    typer.Option(
        "--tuned",
        help="First choose the learning rate on validation data where the study prints no "
        "settings: full fine-tuning in 16 of the 18 tasks; with --embedded both methods in all.",
    ),
]
Form = Annotated[str | None, typer.Option("--format", help="Format: text, markdown, csv or latex.")]
Out = Annotated[
    list[Path] | None,
    typer.Option(help="Also write the report or figure: .md, .csv, .tex, .png, .svg or .pdf."),
]


def paper(
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Use shipped backbones and phantoms, on any machine.")
    ] = False,
    only: Annotated[Words, typer.Option(help="Use only these data sets.")] = None,
    backbones: Annotated[Words, typer.Option(help="Use only these backbones.")] = None,
    fractions: Annotated[Words, typer.Option(help="Use only these label fractions.")] = None,
    methods: Annotated[Words, typer.Option(help="Use only these methods: lora, full.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds: 0 to N - 1.")] = 1,
    root: Annotated[Words, typer.Option(help="Folder of a data set: nih=DIR.")] = None,
    weights: Annotated[Words, typer.Option(help="Checkpoint of a backbone: mrm=FILE.")] = None,
    tuned: Tuned = False,
    trials: Annotated[int, typer.Option(min=1, help="--tuned: trials of each recipe.")] = 8,
    dry_run: DryRun = False,
    judge: Judge = False,
    form: Form = None,
    out: Out = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Run the paper's tasks with LoRA and full fine-tuning, and report which of its claims hold.

    Completed runs are not run again: stop at any time and continue with the same command.
    """
    from core.experiments.paper import tables
    from core.experiments.paper.grid import grid_cells, select_tasks, survey
    from core.experiments.paper.tasks import PAPER_METHODS
    from core.runs.store import open_store
    from core.workspace import open_workspace

    _check_files(out or (), form)
    given = {"only": only, "backbones": backbones, "fractions": fractions, "methods": methods}
    asked = {option: _words(texts) for option, texts in given.items()}
    labels = [_fraction(text) for text in asked["fractions"]]
    tasks = select_tasks(
        embedded=embedded, only=asked["only"], fractions=labels, backbones=asked["backbones"]
    )
    roots, files = _paths(root, "root"), _paths(weights, "weights")
    methods_run = asked["methods"] or PAPER_METHODS
    workspace = open_workspace(folder)
    store = open_store(workspace, create=True)
    if tuned:
        from core.experiments.paper.tuned import plans, possible, tuned_tasks

        planned = plans(tasks, methods_run, trials=trials, roots=roots, weights=files)
        if not (dry_run or judge):
            choose_settings(possible(planned), store, workspace)
        tasks = tuned_tasks(tasks, planned, workspace)
    cells = grid_cells(tasks, methods_run, seeds, roots, files)
    result = None
    if dry_run or not judge:
        statuses = survey(cells, store.list(), workspace)
        if dry_run:
            answer(_plan_json(statuses), as_json, lambda: _print_plan(statuses))
            return
        result = _run(statuses, store, workspace)
    report = _report(tasks, store, workspace, _command_line(embedded, seeds, tuned, asked))
    _write(report, out or ())
    answer(
        tables.as_json(report) | grid_result_json(result),
        as_json,
        lambda: typer.echo(_report_text(report, form)),
    )
    if result is not None and (result.stopped or result.failed):
        raise typer.Exit(1)


def _check_files(out: Sequence[Path], form: str | None) -> None:
    """Check the format and the suffixes of files before any run is started."""
    from core.experiments.paper import figure, tables

    known = (*tables.SUFFIXES, *figure.SUFFIXES)
    for path in out:
        if path.suffix.lower() not in known:
            raise ConfigurationError(
                f"The report cannot be written as “{path.name}”.",
                f"Choose a name that ends in {', '.join(known)}.",
            )
    if form is not None and form not in tables.FORMATS:
        raise unknown_name("format", form, tables.FORMATS)


def _run(statuses: Sequence[CellStatus], store: Store, workspace: Workspace) -> GridResult:
    from core.experiments.run_grid import run_grid

    typer.echo(_totals(statuses), err=True)
    excluded = {str(each.obstacle): each.cell.task.name for each in statuses if each.obstacle}
    for reason, task in excluded.items():
        typer.echo(f"Left out ({task} and similar tasks): {reason}", err=True)
    _check_not_empty(statuses)
    runnable = [status for status in statuses if status.runnable]
    progress = GridProgress({status.cell.name: status.seconds for status in runnable})
    cells = [status.cell for status in runnable]
    result = run_grid(cells, store, workspace, execute, progress)
    print_grid_result(result)
    return result


def _report(tasks: Sequence[Task], store: Store, workspace: Workspace, command: str) -> Report:
    from core.experiments.paper import claims, results, tables

    outcomes = results.gather(tasks, store.list(), workspace)
    return tables.Report(claims.judge(outcomes), results.efficiency(outcomes), command)


def _report_text(report: Report, form: str | None) -> str:
    from core.experiments.paper import tables

    if form is None:
        return tables.text(report, colour=sys.stdout.isatty())
    return tables.render(report, form)


def _write(report: Report, out: Sequence[Path]) -> None:
    from core.experiments.paper import figure, tables

    for path in out:
        form = tables.SUFFIXES.get(path.suffix.lower())
        if form is None:
            figure.draw(report, path)
            typer.echo(f"Written: {path}", err=True)
        else:
            write_text(path, tables.render(report, form))


# --- the plan ------------------------------------------------------------------------------------


def _plan_json(statuses: Sequence[CellStatus]) -> dict[str, Any]:
    return {
        "cells": [
            {
                "name": status.cell.name,
                "task": status.cell.task.name,
                "method": status.cell.method,
                "seed": status.cell.seed,
                "fingerprint": status.cell.spec.fingerprint(),
                "run": status.run.id if status.run else None,
                "done": status.done,
                "obstacle": str(status.obstacle) if status.obstacle else None,
                "seconds": status.seconds,
                "bytes": status.disk,
                "spec": json.loads(status.cell.spec.to_json()),
            }
            for status in statuses
        ],
        "seconds": sum(status.seconds or 0.0 for status in statuses),
        "bytes": sum(status.disk or 0 for status in statuses),
    }


def _print_plan(statuses: Sequence[CellStatus]) -> None:
    def state(status: CellStatus) -> str:
        if status.done:
            return f"completed ({status.run.id})" if status.run else "completed"
        if status.obstacle is not None:
            return status.obstacle.cause
        return f"resumed ({status.run.id}, {status.run.state})" if status.run else "to be run"

    def time(status: CellStatus) -> str:
        return "–" if status.done else duration(status.seconds)

    table(
        ("cell", "time", "state"),
        [(status.cell.name, time(status), state(status)) for status in statuses],
    )
    typer.echo(_totals(statuses))


def _totals(statuses: Sequence[CellStatus]) -> str:
    runnable = [status for status in statuses if status.runnable]
    done = sum(status.done for status in statuses)
    excluded = len(statuses) - done - len(runnable)
    parts = [f"{len(statuses)} runs: {done} completed, {len(runnable)} to be run"]
    if excluded:
        parts.append(f"{excluded} cannot be run here")
    text = ", ".join(parts)
    if runnable:
        seconds = sum(status.seconds or 0.0 for status in runnable)
        disk = sum(status.disk or 0 for status in runnable)
        text += f". About {duration(seconds)}, {disk / 1e9:.2f} GB of disk"
    return f"{text}."


def _check_not_empty(statuses: Sequence[CellStatus]) -> None:
    """Raise the first obstacle if no run is completed and none can be run."""
    if not any(status.done or status.runnable for status in statuses):
        obstacle = next((status.obstacle for status in statuses if status.obstacle), None)
        raise obstacle or CoreError("This grid is empty.", "Choose other tasks, methods or seeds.")


# --- options -------------------------------------------------------------------------------------


def _words(given: Sequence[str] | None) -> list[str]:
    return [word.strip() for text in given or () for word in text.split(",") if word.strip()]


def _fraction(text: str) -> float:
    try:
        return float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ConfigurationError(
            f"“{text}” is not a label fraction.",
            "Write 0.01, 0.1 or 1.",
            field="data.label_fraction",
        ) from None


def _paths(given: Sequence[str] | None, option: str) -> dict[str, Path]:
    """Parse options of the form NAME=PATH."""
    paths = {}
    for text in given or ():
        name, sign, path = text.partition("=")
        if not sign or not path:
            raise ConfigurationError(
                f"“{text}” has no path.", f"Write --{option} NAME=PATH, such as nih=DIR."
            )
        paths[name.strip()] = Path(path).expanduser().absolute()
    return paths


def _command_line(
    embedded: bool, seeds: int, tuned: bool, asked: Mapping[str, Sequence[str]]
) -> str:
    """Command that makes the same report, without the paths of files."""
    arguments = ["python", "-m", "core", "paper", *(["--embedded"] if embedded else [])]
    arguments += [*(["--tuned"] if tuned else []), "--seeds", str(seeds)]
    for option, values in asked.items():
        arguments += [f"--{option}", ",".join(values)] if values else []
    return shlex.join(arguments)
