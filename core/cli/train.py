"""Verbs that train: here, in the queue, or in the process of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from core.cli.execution import beside_main, carry_out_together, execute, follow
from core.cli.options import with_settings
from core.cli.output import AsJson, Folder, answer, bar, opened, print_scores, run_details, summary
from core.config.run import RunSpec
from core.errors import CoreError


@with_settings(recipes=True)
def train(
    spec: RunSpec, folder: Folder = None, as_json: AsJson = False, name: str | None = None
) -> None:
    """Train here and now, with a progress bar, to the test AUROC per finding."""
    from core.cli.progress_bar import ProgressBar
    from core.resources.preflight import check
    from core.runs import queue, worker
    from core.workspace import open_workspace

    if beside_main():
        workspace = open_workspace(folder)
        raise typer.Exit(follow(spec, workspace.root, workspace.cache))
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
        typer.echo(f"The run is {run.state}; to go on: resume {run.id}, then serve.", err=True)
    answer(run_details(run), as_json, lambda: print_scores(run))


@with_settings(recipes=True)
def submit(
    spec: RunSpec,
    folder: Folder = None,
    as_json: AsJson = False,
    name: str | None = None,
    priority: Annotated[int, typer.Option(help="Runs of a higher one start first.")] = 0,
    after: Annotated[
        str | None, typer.Option(help="Start only when this run is completed.")
    ] = None,
) -> None:
    """Put a run into the queue; the explorer or ``serve`` starts it."""
    from core.resources.preflight import check
    from core.runs import queue

    check(spec)
    _, store = opened(folder)
    other = store.get(after).id if after else None
    run = queue.submit(store, spec, name=name, priority=priority, after=other)
    answer(summary(run), as_json, lambda: typer.echo(f"Queued {run.id}: {run.name}"))


@with_settings()
def prepare(
    spec: RunSpec,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Decode the pictures of one run now, so that it starts at once; see also ``data cache``."""
    from core.training import warm_cache
    from core.workspace import open_workspace

    with bar("pictures") as progress:
        found = warm_cache.prepare(spec, open_workspace(folder).cache, progress)
    answer(found, as_json, lambda: typer.echo(
        f"{found['pictures']:,} pictures, {found['made']:,} of them made now."
    ))  # fmt: skip


def work(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="Id or name.")],
    folder: Folder = None,
) -> None:
    """Carry out one run of the store, or several together: what a job's process runs."""
    from core.runs import joint_worker, worker
    from core.runs.store import open_store
    from core.workspace import open_workspace

    workspace = open_workspace(folder)
    store = open_store(workspace, create=False)
    if len(runs) > 1:
        raise typer.Exit(joint_worker.work(store, workspace, runs, carry_out_together))
    if beside_main():
        known = store.get(runs[0])
        raise typer.Exit(follow(known.spec, workspace.run(known.id), workspace.cache))
    raise typer.Exit(worker.work(store, workspace, runs[0], execute))
