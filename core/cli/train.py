"""Verbs that train: ``train`` here, ``submit`` to the queue, ``work`` in a run's process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.cli.execution import (
    GridProgress,
    execute,
    execute_jointly,
    grid_result_json,
    is_secondary_process,
    print_grid_result,
    train_as_secondary,
)
from core.cli.options import with_settings
from core.cli.output import (
    AsJson,
    Folder,
    Folds,
    NewName,
    Priority,
    answer,
    bar,
    opened,
    print_scores,
    run_details,
    summary,
)
from core.config.run import RunSpec
from core.errors import CoreError


@with_settings(recipes=True)
def train(
    spec: RunSpec,
    folder: Folder = None,
    as_json: AsJson = False,
    name: NewName = None,
    folds: Folds = None,
) -> None:
    """Train a run in this process, with a progress bar, and print its test AUROC by finding."""
    from core.cli.progress_bar import ProgressBar
    from core.resources.preflight import check
    from core.runs import queue, worker
    from core.workspace import open_workspace

    if folds is not None:
        _train_folds(spec, folds, folder, as_json, name)
        return
    if is_secondary_process():
        workspace = open_workspace(folder)
        raise typer.Exit(train_as_secondary(spec, workspace.root, workspace.cache))
    check(spec)
    workspace, store = opened(folder)
    run = queue.claim_here(store, spec, name=name)
    with ProgressBar(run.name) as bar:
        code = worker.work(store, workspace, run.id, execute, observer=bar)
    run = store.get(run.id)
    if code != 0:
        reason = f"{run.failure_reason or run.state} {run.failure_remedy or ''}".strip()
        raise CoreError(f"The run {run.id} ended as {run.state}: {reason}")
    if run.scores is None:
        typer.echo(f"The run is {run.state}. To continue: resume {run.id}, then serve.", err=True)
    answer(run_details(run), as_json, lambda: print_scores(run))


def _train_folds(
    spec: RunSpec, folds: int, folder: Path | None, as_json: bool, name: str | None
) -> None:
    """Train the runs of all folds that are not completed, and print the joined scores."""
    from core.errors import ConfigurationError
    from core.evaluation import evaluate
    from core.experiments import sweep
    from core.experiments.folds import FoldCell, joined_trial
    from core.experiments.run_grid import run_grid
    from core.hardware.distributed import launched
    from core.resources.preflight import check

    if launched().count > 1 or name is not None:
        raise ConfigurationError(
            "--folds trains several runs: it supports neither --name nor several processes.",
            "Leave them out, or train one fold at a time: --fold 1/5.",
        )
    cells = [FoldCell(each) for each in sweep.grid(spec, folds=folds)]
    check(cells[0].spec)
    workspace, store = opened(folder)
    result = run_grid(
        cells, store, workspace, execute, GridProgress({cell.name: None for cell in cells})
    )
    print_grid_result(result)
    if result.stopped or result.failed:
        raise typer.Exit(1)
    trial = joined_trial(cells[0].spec, store, workspace)
    scores = evaluate.evaluate_run(trial.folder, others=trial.others)
    value = grid_result_json(result) | {"joined": evaluate.as_json(scores)}
    answer(value, as_json, lambda: typer.echo(evaluate.as_text(scores)))


@with_settings(recipes=True)
def submit(
    spec: RunSpec,
    folder: Folder = None,
    as_json: AsJson = False,
    name: NewName = None,
    priority: Priority = 0,
    after: Annotated[
        str | None, typer.Option(help="Start only after this run is completed.")
    ] = None,
) -> None:
    """Add a run to the queue; the explorer or ``serve`` starts it."""
    from core.resources.preflight import check
    from core.runs import queue

    check(spec)
    _, store = opened(folder)
    other = store.get(after).id if after else None
    run = queue.submit(store, spec, name=name, priority=priority, after=other)
    answer(summary(run), as_json, lambda: typer.echo(f"Queued {run.id}: {run.name}"))


@with_settings()
def prepare(spec: RunSpec, folder: Folder = None, as_json: AsJson = False) -> None:
    """Decode the images of a run now, so that it starts faster; see also ``data cache``."""
    from core.training import warm_cache
    from core.workspace import open_workspace

    with bar("images") as progress:
        counts = warm_cache.prepare(spec, open_workspace(folder).cache, progress)
    answer(counts, as_json, lambda: typer.echo(
        f"{counts['pictures']:,} images, {counts['made']:,} of them decoded now."
    ))  # fmt: skip


def work(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="Id or name.")],
    folder: Folder = None,
) -> None:
    """Execute one run of the store, or several jointly: the command of a run's process."""
    from core.runs import joint_worker, worker
    from core.runs.store import open_store
    from core.workspace import open_workspace

    workspace = open_workspace(folder)
    store = open_store(workspace, create=False)
    if len(runs) > 1:
        raise typer.Exit(joint_worker.work(store, workspace, runs, execute_jointly))
    if is_secondary_process():
        run = store.get(runs[0])
        raise typer.Exit(train_as_secondary(run.spec, workspace.run(run.id), workspace.cache))
    raise typer.Exit(worker.work(store, workspace, runs[0], execute))
