"""The verb that queues many runs at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.execution import carry_out_together
from core.cli.options import with_settings
from core.cli.output import AsJson, Folder, answer, opened, score, summary, table
from core.config.run import RunSpec

if TYPE_CHECKING:
    from core.experiments.sweep import Plan
    from core.runs.store import Store
    from core.workspace import Workspace

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
    together: Annotated[
        bool,
        typer.Option(
            "--together",
            help="Train them here and now, in one process that holds the frozen backbone once; "
            "for LoRA, rsLoRA and LoRA+.",
        ),
    ] = False,
    queued: Annotated[
        bool, typer.Option("--queued", help="With --together: when their turn comes, not now.")
    ] = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Queue methods × ranks × label fractions × seeds, once it is clear how long they take.

    With --together they are trained in the same forward passes, here and now, or with --queued when
    their turn comes; each is a run of its own, with the result that it would have alone.
    """
    from core.errors import ConfigurationError
    from core.experiments import sweep as sweeps

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
    if together:
        _check_together(planned)
    value: dict[str, Any] = planned.as_json()
    if dry_run:
        answer(value, as_json, lambda: _tell(planned))
        return
    if planned.new and not yes:
        _tell(planned)
        question = "Train them now?" if together and not queued else "Queue them?"
        typer.confirm(question, abort=True, err=True)
    if together and not queued:
        _train_together(planned, workspace, store, value, as_json)
        return
    runs = sweeps.submit(store, planned, priority=priority, together=together)
    value["queued"] = [summary(run) for run in runs]
    answer(value, as_json, lambda: typer.echo(f"Queued {len(runs):,} runs."))


def _check_together(planned: Plan) -> None:
    from core.errors import ConfigurationError
    from core.hardware import distributed as ranks
    from core.training.joint import compatibility

    if ranks.launched().count > 1:
        raise ConfigurationError(
            "Runs are trained together in one process, but several were launched.",
            "Call python -m core sweep --together.",
        )
    if planned.new:
        compatibility.check_compatible(planned.new)


def _train_together(
    planned: Plan, workspace: Workspace, store: Store, value: dict[str, Any], as_json: bool
) -> None:
    from core.cli.progress_bar import SharedBar
    from core.runs import joint_worker, queue

    if not planned.new:
        answer(value, as_json, lambda: typer.echo("All these runs are completed or waiting."))
        return
    ids = [queue.claim_here(store, spec).id for spec in planned.new]
    with SharedBar(f"{len(ids)} runs together", len(ids)) as bar:
        code = joint_worker.work(store, workspace, ids, carry_out_together, bar.of)
    runs = [store.get(one) for one in ids]
    value["carried_out"] = [summary(run) for run in runs]
    answer(value, as_json, lambda: table(
        ("id", "state", "val AUROC", "name"),
        [(run.id, str(run.state), score(run.best_auroc), run.name) for run in runs],
    ))  # fmt: skip
    for run in runs:
        if run.failure_reason:
            typer.echo(f"{run.name}: {run.failure_reason} {run.failure_remedy or ''}", err=True)
    if code:
        raise typer.Exit(code)


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
