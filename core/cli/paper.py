"""The verb that carries out the study's grid and says what came of it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.execution import Teller, duration, ending_json, execute, say_ending
from core.cli.output import AsJson, Folder, answer, table
from core.errors import ConfigurationError, CoreError, unknown_name

if TYPE_CHECKING:
    from core.experiments.paper.grid import Step
    from core.experiments.paper.tables import Report
    from core.experiments.paper.tasks import Task
    from core.experiments.run_grid import Ending
    from core.runs.store import Store
    from core.workspace import Workspace


def paper(
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Shipped backbones and phantoms: any machine.")
    ] = False,
    only: Annotated[list[str] | None, typer.Option(help="These data sets alone.")] = None,
    backbones: Annotated[list[str] | None, typer.Option(help="These backbones alone.")] = None,
    fractions: Annotated[list[str] | None, typer.Option(help="These label fractions.")] = None,
    methods: Annotated[list[str] | None, typer.Option(help="lora, full.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0 to N - 1.")] = 1,
    root: Annotated[list[str] | None, typer.Option(help="Folder of a data set: nih=DIR.")] = None,
    weights: Annotated[list[str] | None, typer.Option(help="Checkpoint: mrm=FILE.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs and what they will take; run none.")
    ] = False,
    judge: Annotated[
        bool, typer.Option("--judge", help="Say what the runs that are there say; run none.")
    ] = False,
    form: Annotated[
        str | None, typer.Option("--format", help="text, markdown, csv or latex.")
    ] = None,
    out: Annotated[
        list[Path] | None, typer.Option(help="Also write .md, .csv, .tex, .png, .svg or .pdf.")
    ] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Carry out the study's tasks by both methods, and say which of its claims hold.

    What is done is not run again: stop it at any time, and the same command goes on.
    """
    from core.experiments.paper import grid as plan
    from core.experiments.paper import tables
    from core.experiments.paper.tasks import PAPER_METHODS
    from core.runs.store import open_store
    from core.workspace import open_workspace

    _check_files(out or (), form)
    tasks = plan.choose(
        embedded=embedded,
        only=_words(only),
        fractions=[_fraction(one) for one in _words(fractions)],
        backbones=_words(backbones),
    )
    chosen = _words(methods) or list(PAPER_METHODS)
    grid = plan.cells(
        tasks, chosen, seeds, _places(root, "root"), _places(weights, "weights")
    )  # fmt: skip
    workspace = open_workspace(folder)
    store = open_store(workspace, create=True)
    ending = None
    if dry_run or not judge:
        steps = plan.survey(grid, store.list(), workspace)
        if dry_run:
            answer(_plan_json(steps), as_json, lambda: _print_plan(steps))
            return
        ending = _carry_out(steps, store, workspace)
    asked = {
        "only": _words(only),
        "backbones": _words(backbones),
        "fractions": _words(fractions),
        "methods": _words(methods),
    }
    report = _report(tasks, store, workspace, _command_line(embedded, seeds, asked))
    _write(report, out or ())
    answer(
        tables.as_json(report) | ending_json(ending),
        as_json,
        lambda: typer.echo(_for_people(report, form)),
    )
    if ending is not None and (ending.stopped or ending.failed):
        raise typer.Exit(1)


def _check_files(out: Sequence[Path], form: str | None) -> None:
    """Refuse before anything is run what could not be written after it."""
    from core.experiments.paper import figure, tables

    known = (*tables.SUFFIXES, *figure.SUFFIXES)
    for path in out:
        if path.suffix.lower() not in known:
            raise ConfigurationError(
                f"Nothing can be written as “{path.name}”.",
                f"Choose a name that ends in {', '.join(known)}.",
            )
    if form is not None and form not in tables.FORMATS:
        raise unknown_name("format", form, tables.FORMATS)


def _carry_out(steps: Sequence[Step], store: Store, workspace: Workspace) -> Ending:
    from core.experiments import run_grid

    _say_plan(steps)
    _check_nothing(steps)
    wanted = [step.cell for step in steps if step.wanted]
    teller = Teller({step.cell.name: step.seconds for step in steps if step.wanted})
    ending = run_grid.run_grid(wanted, store, workspace, execute, teller)
    say_ending(ending)
    return ending


def _report(tasks: Sequence[Task], store: Store, workspace: Workspace, command: str) -> Report:
    from core.experiments.paper import claims, results, tables

    outcomes = results.gather(tasks, store.list(), workspace)
    return tables.Report(claims.judge(outcomes), results.efficiency(outcomes), command)


def _for_people(report: Report, form: str | None) -> str:
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
        else:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(tables.render(report, form) + "\n", encoding="utf-8")
            except OSError as error:
                raise ConfigurationError(
                    f"{path} cannot be written ({error.strerror or error}).",
                    "Choose another place.",
                ) from error
        typer.echo(f"Written: {path}", err=True)


# --- the plan ------------------------------------------------------------------------------------


def _plan_json(steps: Sequence[Step]) -> dict[str, Any]:
    return {
        "cells": [
            {
                "name": step.cell.name,
                "task": step.cell.task.name,
                "method": step.cell.method,
                "seed": step.cell.seed,
                "fingerprint": step.cell.spec.fingerprint(),
                "run": step.run.id if step.run else None,
                "done": step.done,
                "obstacle": str(step.obstacle) if step.obstacle else None,
                "seconds": step.seconds,
                "bytes": step.disk,
                "spec": json.loads(step.cell.spec.to_json()),
            }
            for step in steps
        ],
        "seconds": sum(step.seconds or 0.0 for step in steps),
        "bytes": sum(step.disk or 0 for step in steps),
    }


def _print_plan(steps: Sequence[Step]) -> None:
    def state(step: Step) -> str:
        if step.done:
            return f"done ({step.run.id})" if step.run else "done"
        if step.obstacle is not None:
            return step.obstacle.cause
        return f"goes on ({step.run.id}, {step.run.state})" if step.run else "to be run"

    def time(step: Step) -> str:
        return "–" if step.seconds is None or step.done else duration(step.seconds)

    table(("cell", "time", "state"), [(step.cell.name, time(step), state(step)) for step in steps])
    typer.echo(_totals(steps))


def _totals(steps: Sequence[Step]) -> str:
    wanted = [step for step in steps if step.wanted]
    done = sum(step.done for step in steps)
    left = len(steps) - done - len(wanted)
    parts = [f"{len(steps)} runs: {done} done, {len(wanted)} to be run"]
    if left:
        parts.append(f"{left} that cannot be run here")
    text = ", ".join(parts)
    if wanted:
        seconds = sum(step.seconds or 0.0 for step in wanted)
        disk = sum(step.disk or 0 for step in wanted)
        text += f". About {duration(seconds)}, {disk / 1e9:.2f} GB of disk"
    return f"{text}."


def _say_plan(steps: Sequence[Step]) -> None:
    typer.echo(_totals(steps), err=True)
    told = {str(step.obstacle): step.cell.task.name for step in steps if step.obstacle is not None}
    for reason, task in told.items():
        typer.echo(f"Left out ({task} and its like): {reason}", err=True)


def _check_nothing(steps: Sequence[Step]) -> None:
    """A grid of which nothing is done and nothing can be run is a fault."""
    if not any(step.done or step.wanted for step in steps):
        reason = next((step.obstacle for step in steps if step.obstacle is not None), None)
        raise reason or CoreError("This grid is empty.", "Choose other tasks, methods or seeds.")


# --- options -------------------------------------------------------------------------------------


def _words(given: Sequence[str] | None) -> list[str]:
    return [word.strip() for one in given or () for word in one.split(",") if word.strip()]


def _fraction(text: str) -> float:
    try:
        return float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ConfigurationError(
            f"“{text}” is no label fraction.", "Write 0.01, 0.1 or 1.", field="data.label_fraction"
        ) from None


def _places(given: Sequence[str] | None, option: str) -> dict[str, Path]:
    found = {}
    for one in given or ():
        name, sign, path = one.partition("=")
        if not sign or not path:
            raise ConfigurationError(
                f"“{one}” names no place.", f"Write --{option} NAME=PATH, such as nih=DIR."
            )
        found[name.strip()] = Path(path).expanduser().absolute()
    return found


def _command_line(embedded: bool, seeds: int, asked: Mapping[str, Sequence[str]]) -> str:
    """What makes the same table again, without the places of files."""
    words = ["python", "-m", "core", "paper", *(["--embedded"] if embedded else [])]
    words += ["--seeds", str(seeds)]
    for option, values in asked.items():
        words += [f"--{option}", ",".join(values)] if values else []
    return shlex.join(words)
