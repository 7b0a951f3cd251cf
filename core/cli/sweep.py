"""The verb ``sweep``: queues many runs, or trains them jointly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.execution import execute_jointly
from core.cli.options import with_settings
from core.cli.output import AsJson, Folder, Folds, Priority, answer, opened, summary, table
from core.config.number_lists import numbers
from core.config.run import RunSpec
from core.config.tuned import with_tuned_defaults
from core.formatting import auroc, duration

if TYPE_CHECKING:
    from core.experiments.sweep import Plan
    from core.runs.store import Store
    from core.workspace import Workspace

MAX_LISTED = 20
"""Number of runs that are listed before the question."""


List = Annotated[
    Path | None, typer.Option("--list", help="JSON list of differing settings, instead of a grid.")
]
Again = Annotated[
    bool, typer.Option("--again", help="Include runs that are completed, active or queued.")
]
Together = Annotated[
    bool,
    typer.Option(
        "--together",
        help="Train them now, in this process, with one copy of the frozen backbone; for LoRA, "
        "rsLoRA and LoRA+.",
    ),
]
Queued = Annotated[
    bool,
    typer.Option("--queued", help="With --together: add them to the queue as one group instead."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print which runs it would queue.")]


Alphas = Annotated[
    str,
    typer.Option(
        help="Values of alpha, the same for each rank: 16,32. Without them, alpha "
        "changes with the rank, so that alpha / rank stays that of --alpha and --rank."
    ),
]
AlphaOverRank = Annotated[
    str, typer.Option(help="Values of alpha / rank, instead of --alphas: 1,2,8.")
]


@with_settings()
def sweep(
    spec: RunSpec,
    methods: Annotated[str, typer.Option(help="Names of methods: lora,full,linear.")] = "",
    ranks: Annotated[str, typer.Option(help="Ranks: 4,8,16.")] = "",
    fractions: Annotated[str, typer.Option(help="Label fractions: 0.01,0.1,1.")] = "",
    seeds: Annotated[str, typer.Option(help="Seeds: 0,1,2 or 0-4.")] = "",
    lrs: Annotated[str, typer.Option(help="Learning rates: 0.0005,0.002,0.01.")] = "",
    alphas: Alphas = "",
    alpha_over_rank: AlphaOverRank = "",
    folds: Folds = None,
    of: List = None,
    again: Again = False,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    priority: Priority = 0,
    together: Together = False,
    queued: Queued = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Queue all combinations of the given values, after showing how long they take.

    The axes are methods, label fractions, ranks, alphas, learning rates and seeds. A sweep over
    ranks keeps alpha / rank: with --ranks 4,16 alpha is 32 and 128. --alphas 32 keeps alpha.

    With --together the runs are trained in the same forward passes, now or, with --queued, as one
    group of the queue. Each is a separate run with the same result as if it were trained alone.
    """
    from core.errors import ConfigurationError
    from core.experiments.sweep import grid, plan, read_list, submit

    workspace, store = opened(folder)
    axes = (methods, ranks, fractions, seeds, lrs, alphas, alpha_over_rank)
    if of is not None and (any(axes) or folds is not None):
        raise ConfigurationError("Both a list of runs and a grid are given.", "Give one of them.")
    if of is not None:
        specs = read_list(spec, of)
    else:
        specs = grid(
            spec,
            methods.replace(",", " ").split(),
            numbers(ranks, int, "--ranks"),
            numbers(fractions, float, "--fractions"),
            numbers(seeds, int, "--seeds"),
            folds,
            lrs=numbers(lrs, float, "--lrs"),
            alphas=numbers(alphas, float, "--alphas"),
            alphas_over_rank=numbers(alpha_over_rank, float, "--alpha-over-rank"),
        )
    planned = plan(map(with_tuned_defaults, specs), store, workspace.cache, again=again)
    if together:
        _check_together(planned)
    value: dict[str, Any] = planned.as_json()
    if dry_run:
        answer(value, as_json, lambda: _print_plan(planned))
        return
    if planned.new and not yes:
        _print_plan(planned)
        question = "Train them now?" if together and not queued else "Queue them?"
        typer.confirm(question, abort=True, err=True)
    if together and not queued:
        _train_together(planned, workspace, store, value, as_json)
        return
    runs = submit(store, planned, priority=priority, together=together)
    value["queued"] = [summary(run) for run in runs]
    answer(value, as_json, lambda: typer.echo(f"Queued {len(runs):,} runs."))


def _check_together(planned: Plan) -> None:
    from core.errors import ConfigurationError
    from core.hardware.distributed import launched
    from core.training.joint.compatibility import check_compatible

    if launched().count > 1:
        raise ConfigurationError(
            "--together trains all runs in one process, but several processes were launched.",
            "Start it with python -m core sweep --together.",
        )
    if planned.new:
        check_compatible(planned.new)


def _train_together(
    planned: Plan, workspace: Workspace, store: Store, value: dict[str, Any], as_json: bool
) -> None:
    from core.cli.progress_bar import SharedBar
    from core.runs import joint_worker, queue

    if not planned.new:
        answer(
            value, as_json, lambda: typer.echo("All these runs are completed, active or queued.")
        )
        return
    ids = [queue.claim_here(store, spec).id for spec in planned.new]
    with SharedBar(f"{len(ids)} runs together", len(ids)) as bar:
        code = joint_worker.work(store, workspace, ids, execute_jointly, bar.reporter)
    runs = [store.get(run_id) for run_id in ids]
    value["carried_out"] = [summary(run) for run in runs]
    answer(value, as_json, lambda: table(
        ("id", "state", "val AUROC", "name"),
        [(run.id, str(run.state), auroc(run.best_auroc), run.name) for run in runs],
    ))  # fmt: skip
    for run in runs:
        if run.failure_reason:
            typer.echo(f"{run.name}: {run.failure_reason} {run.failure_remedy or ''}", err=True)
    if code:
        raise typer.Exit(code)


def _print_plan(planned: Plan) -> None:
    for spec in planned.new[:MAX_LISTED]:
        typer.echo(f"  {spec.title()}", err=True)
    if len(planned.new) > MAX_LISTED:
        typer.echo(f"  … and {len(planned.new) - MAX_LISTED:,} others", err=True)
    typer.echo(plan_text(planned), err=True)


def plan_text(planned: Plan) -> str:
    """Number of runs, their expected time, and the number that is left out."""
    count = len(planned.new)
    text = f"{count:,} run{'s' * (count != 1)}"
    if count:
        text += f", about {duration(planned.seconds)} one after the other ({planned.basis})"
    if planned.known:
        text += (
            f"; {len(planned.known):,} equal runs are completed, active or queued and are left "
            "out (include them with --again)"
        )
    return f"{text}."
