"""Run a training run in this process, for notebooks and scripts that wait for its end."""

from __future__ import annotations

from core.config.run import RunSpec
from core.errors import RunError
from core.reporter import Reporter
from core.runs import queue, worker
from core.runs.run import Run, RunState
from core.runs.store import open_store
from core.training import trackers
from core.workspace import Workspace, open_workspace


def run_in_process(
    spec: RunSpec,
    workspace: Workspace | None = None,
    observer: Reporter | None = None,
    *,
    again: bool = False,
) -> Run:
    """Train and test a run; it is recorded in the store, so that the explorer shows it.

    Args:
        spec: The run.
        workspace: Where the run is kept; by default the one of ``CXR_WORKSPACE``, or a folder of
            the user's own.
        observer: Receives all reports as well, for example a progress bar.
        again: Repeat a run that is already completed; otherwise the completed run is returned.

    Returns:
        The completed run.

    Raises:
        RunError: The run was stopped or failed, with the reason and the remedy.
    """
    workspace = open_workspace() if workspace is None else workspace
    store = open_store(workspace, create=True)
    if not again:
        fingerprint = spec.fingerprint()
        for run in store.list(states=[RunState.COMPLETED]):
            if run.fingerprint == fingerprint and run.folder.is_dir():
                return run
    run = queue.claim_here(store, spec)
    worker.work(store, workspace, run.id, trackers.run, observer)
    run = store.get(run.id)
    if run.state is not RunState.COMPLETED:
        raise RunError(
            f"The run {run.name} ended as {run.state}. {run.failure_reason or ''}".strip(),
            run.failure_remedy or "See its log for details.",
        )
    return run
