"""The verb ``tune``: each method at its own best settings, with equal budgets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.execution import EXECUTORS, open_scheduler, trainable_together
from core.cli.options import with_settings
from core.cli.output import AsJson, Folder, answer, opened, table
from core.config.run import RunSpec
from core.formatting import DISCLAIMER, duration

if TYPE_CHECKING:
    from core.experiments.tune.plan import Plan
    from core.experiments.tune.result import Result
    from core.experiments.tune.space import Setting
    from core.experiments.tune.trials import Joint
    from core.runs.scheduler import Scheduler
    from core.runs.store import Store
    from core.workspace import Workspace

METHODS = "lora,full,linear"

Trials = Annotated[
    int | None,
    typer.Option(help="Trials of each method, by default 8; the first has the default settings."),
]
Budget = Annotated[
    str | None,
    typer.Option(help="Training time of each method instead of a number of trials: 90s, 20m, 2h."),
]
Search = Annotated[
    str,
    typer.Option(
        help="Settings to tune: lr, alpha-over-rank, rank, targets, weight-decay, …, or all. A "
        "setting that you give with its own option is kept."
    ),
]
Seeds = Annotated[str, typer.Option(help="Tuning seeds: each trial is trained with all of them.")]
FinalSeeds = Annotated[
    str,
    typer.Option(help="Number of fresh seeds for the chosen settings (5), or the seeds: 10-14."),
]
Name = Annotated[
    str | None, typer.Option(help="Name of the tuning; without other options it is continued.")
]
Prune = Annotated[
    bool,
    typer.Option(
        "--prune/--no-prune",
        help="Stop trials whose validation AUROC is below the median of earlier trials.",
    ),
]
Parallel = Annotated[
    int, typer.Option(min=1, help="Trials of each method that are queued at the same time.")
]
Together = Annotated[
    bool,
    typer.Option("--together", help="Train compatible LoRA runs that are queued together jointly."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the search spaces and the time; run nothing.")
]
Write = Annotated[
    Path | None,
    typer.Option(help="Also write the chosen settings to this JSON file of tuned defaults."),
]


@with_settings()
def tune(
    spec: RunSpec,
    given: set[str],
    methods: Annotated[str, typer.Option(help="Names of methods.")] = METHODS,
    trials: Trials = None,
    budget: Budget = None,
    search: Search = "lr",
    seeds: Seeds = "0",
    final_seeds: FinalSeeds = "5",
    name: Name = None,
    prune: Prune = True,
    parallel: Parallel = 1,
    together: Together = False,
    slots: Annotated[int, typer.Option(min=1, help="Simultaneous runs on each device.")] = 1,
    executor: Annotated[
        str, typer.Option(help="Where runs are executed: processes, ray, or none (wait for serve).")
    ] = "processes",
    address: Annotated[str, typer.Option(help="ray: address of the cluster.")] = "auto",
    cpus: Annotated[int, typer.Option(min=1, help="ray: cores of each run.")] = 1,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    write: Write = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Tune each method on validation data with the same budget, and compare them with fresh seeds.

    The settings with the best validation AUROC are trained with seeds that were not used for the
    choice; only these runs are compared. Trials are runs of the queue. After an interruption the
    same command, or --name alone, continues.
    """
    from core.errors import unknown_name
    from core.experiments.tune import result as results
    from core.experiments.tune.plan import check, expected_seconds, plan_of
    from core.experiments.tune.trials import Joint

    if executor not in (*EXECUTORS, "none"):
        raise unknown_name("executor", executor, (*EXECUTORS, "none"))
    plan = plan_of(
        spec, given, _names(methods), trials, budget, _names(search), seeds, final_seeds, prune
    )
    workspace, store = opened(folder)
    plan = _stored_or_new(plan, name, workspace)
    spaces = check(plan)
    expected = expected_seconds(plan, store)
    if dry_run:
        value = {"name": name or plan.name, "seconds": expected, "plan": plan.as_json()}
        value["spaces"] = {name: list(map(asdict, space)) for name, space in spaces.items()}
        answer(value, as_json, lambda: _print_plan(plan, spaces, expected))
        return
    if not yes:
        _print_plan(plan, spaces, expected, err=True)
        typer.confirm("Start?", abort=True, err=True)
    joint = Joint(parallel, trainable_together if together else None)
    scheduler = None
    if executor != "none":
        scheduler = open_scheduler(store, workspace, executor, slots, address, cpus)
    result = _run(plan, store, workspace, name, joint, scheduler)
    if write is not None:
        _write(result, plan, write)
    answer(results.as_json(result), as_json, lambda: _print_result(result))
    if not result.complete:
        raise typer.Exit(1)


def _stored_or_new(plan: Plan, name: str | None, workspace: Workspace) -> Plan:
    """The plan of the tuning of this name, if there is one and no other option was given."""
    from core.experiments.tune import study
    from core.experiments.tune.plan import plan_of

    if name is None:
        return plan
    stored = study.stored_plan(study.open_storage(workspace), name)
    unset = plan_of(RunSpec(), (), _names(METHODS), None, None, ("lr",), "0", "5")
    return stored if stored is not None and plan == unset else plan


def _names(text: str) -> list[str]:
    """The names in a list such as ``lora,full``."""
    return text.replace(",", " ").split()


def _run(
    plan: Plan,
    store: Store,
    workspace: Workspace,
    name: str | None,
    joint: Joint,
    scheduler: Scheduler | None,
) -> Result:
    from core.experiments.tune.result import result_of
    from core.experiments.tune.tune import Tuning

    def report(line: str) -> None:
        typer.echo(line, err=True)

    tuning = Tuning(plan, store, workspace, name, joint=joint, report=report)
    report(f"Tuning {tuning.name} in {workspace.root}.")
    if scheduler is not None:
        scheduler.start()
    try:
        tuning.run()
    except KeyboardInterrupt:
        report(f"Interrupted; started runs continue. Continue with tune --name {tuning.name}.")
        raise typer.Exit(1) from None
    finally:
        if scheduler is not None:
            scheduler.stop()
    return result_of(tuning)


def _print_plan(
    plan: Plan, spaces: dict[str, tuple[Setting, ...]], seconds: float, *, err: bool = False
) -> None:
    from core.models.tuning.registry import TUNING_METHODS

    rows: list[tuple[str, ...]] = [
        (TUNING_METHODS[method].title, setting.name, setting.values, setting.source)
        for method, space in spaces.items()
        for setting in space
    ]
    rows += [
        (TUNING_METHODS[method].title, "none", "1 trial", "the fit chooses its penalty")
        for method, space in spaces.items()
        if not space
    ]
    table(("method", "setting", "values", "source"), rows, err=err)
    seeds, final = (", ".join(map(str, each)) for each in (plan.seeds, plan.final_seeds))
    typer.echo(
        f"{plan.limit} of each method with the seeds {seeds}; then the chosen settings with the "
        f"seeds {final}. About {duration(seconds)} of training.",
        err=err,
    )


def _print_result(result: Result) -> None:
    from core.experiments.tune.result import COLUMNS, rows, sentences

    table(COLUMNS, rows(result))
    typer.echo("\n".join(["", *sentences(result), f"{DISCLAIMER}."]))


def _write(result: Result, plan: Plan, file: Path) -> None:
    from core.experiments.tune.defaults import write_defaults

    count = write_defaults(result, plan, file)
    typer.echo(f"Written: {file} ({count} methods)", err=True)
