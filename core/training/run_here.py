"""A run carried out in this very process: for notebooks and scripts that wait for its end."""

from __future__ import annotations

from core.config.run import RunSpec
from core.errors import RunError
from core.reporter import Reporter
from core.runs import queue, worker
from core.runs.run import Run, RunState
from core.runs.store import Store
from core.training import trackers
from core.workspace import Workspace


def run_in_process(
    spec: RunSpec,
    store: Store,
    workspace: Workspace,
    observer: Reporter | None = None,
    *,
    again: bool = False,
) -> Run:
    """Train and test, with all of it in the store, so that the explorer shows it like any run.

    Args:
        spec: What to do.
        store: The workspace's store.
        workspace: Where the run's folder and the cache are.
        observer: Told everything, too.
        again: Repeat a run that has been completed; otherwise the earlier one is the answer.

    Returns:
        The completed run.

    Raises:
        RunError: It was stopped, or it failed; the reason and the remedy are told.
    """
    if not again:
        wanted = spec.fingerprint()
        for run in store.list(states=[RunState.COMPLETED]):
            if run.fingerprint == wanted and workspace.run(run.id).is_dir():
                return run
    run = queue.claim_here(store, spec)
    worker.work(store, workspace, run.id, trackers.run, observer)
    run = store.get(run.id)
    if run.state is not RunState.COMPLETED:
        raise RunError(
            f"The run {run.name} ended as {run.state}. {run.failure_reason or ''}".strip(),
            run.failure_remedy or "Its log says more.",
        )
    return run
