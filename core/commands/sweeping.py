"""The verb that queues many runs at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.commands.answers import AsJson, Folder, answer, opened, summary
from core.commands.settings import with_settings
from core.spec import RunSpec

if TYPE_CHECKING:
    from core.sweep import Plan

NAMED = 20


@with_settings()
def sweep(
    spec: RunSpec,
    methods: Annotated[str, typer.Option(help="Names of methods: lora,full,linear.")] = "",
    ranks: Annotated[str, typer.Option(help="Ranks: 4,8,16.")] = "",
    fractions: Annotated[str, typer.Option(help="Label fractions: 0.01,0.1,1.")] = "",
    seeds: Annotated[str, typer.Option(help="Seeds: 0,1,2 or 0-4.")] = "",
    of: Annotated[
        Path | None, typer.Option("--list", help="A JSON list of what differs, in place of a grid.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Queue runs too that are completed or waiting.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    priority: Annotated[int, typer.Option(help="Runs of a higher one start first.")] = 0,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Queue methods × ranks × label fractions × seeds, once it is clear how long they take."""
    from core import sweep as sweeps
    from core.errors import ConfigurationError

    workspace, store = opened(folder)
    if of is not None and (methods or ranks or fractions or seeds):
        raise ConfigurationError("A list of runs and a grid were given.", "Give one of them.")
    if of is not None:
        specs = sweeps.listed(spec, of)
    else:
        specs = sweeps.grid(
            spec,
            methods.replace(",", " ").split(),
            numbers(ranks, int, "--ranks"),
            numbers(fractions, float, "--fractions"),
            numbers(seeds, int, "--seeds"),
        )
    planned = sweeps.plan(specs, store, workspace.cache, again=again)
    value: dict[str, Any] = planned.as_json()
    if dry_run:
        answer(value, as_json, lambda: _tell(planned))
        return
    if planned.new and not yes:
        _tell(planned)
        typer.confirm("Queue them?", abort=True, err=True)
    queued = sweeps.submit(store, planned, priority=priority)
    value["queued"] = [summary(run) for run in queued]
    answer(value, as_json, lambda: typer.echo(f"Queued {len(queued):,} runs."))


def numbers(text: str, kind: Callable[[str], Any], option: str) -> list[Any]:
    """Read ``4,8`` or, for whole numbers, ``0-4``.

    Raises:
        ConfigurationError: It is no such list.
    """
    from core.errors import ConfigurationError

    found: list[Any] = []
    try:
        for word in text.replace(",", " ").split():
            first, dash, last = word.partition("-")
            if kind is int and dash and first:
                found += range(int(first), int(last) + 1)
            else:
                found.append(kind(word))
    except ValueError as error:
        raise ConfigurationError(
            f"“{text}” is no list of numbers.", f"Write {option} 1,2,3."
        ) from error
    return found


def _tell(planned: Plan) -> None:
    for spec in planned.new[:NAMED]:
        typer.echo(f"  {spec.title()}", err=True)
    if len(planned.new) > NAMED:
        typer.echo(f"  … and {len(planned.new) - NAMED:,} others", err=True)
    typer.echo(in_words(planned), err=True)


def in_words(planned: Plan) -> str:
    """How many runs, how long, and how many are left out."""
    count = len(planned.new)
    words = f"{count:,} run{'s' * (count != 1)}, about {_duration(planned.seconds)} one after the "
    words += f"other ({planned.basis})." if count else "other."
    if planned.known:
        words += (
            f" {len(planned.known):,} more are completed or waiting and are left out (--again)."
        )
    return words


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"
