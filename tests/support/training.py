"""A real training run in a process that can be killed at any moment.

A server that has loaded torch forks each process, so that fifty kills take minutes, not an hour.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from core.config.run import RunSpec
from core.reporter import Reporter
from core.runs import worker
from core.runs.store import RunState, Store, open_store
from core.workspace import Workspace

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["core.training.loop", "core.runs.worker", "tests.support.training"]
)
CHECKPOINT_SECONDS = 0.02
"""So that kills meet checkpoints in the middle of epochs, too."""


def work(root: Path, run_id: str, slow: float = 0.0) -> None:
    """Run a run of a workspace; called in a forked process."""
    from core.resources import validation_schedule
    from core.training import loop

    loop.CHECKPOINT_SECONDS = CHECKPOINT_SECONDS
    validation_schedule.LEAST_PART = 2  # for twelve validation studies
    workspace = Workspace(root)
    store = open_store(workspace, create=False)

    def execute(
        spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
    ) -> dict[str, Any]:
        return loop.fine_tune(spec, folder, cache, report, resume=resume)

    os._exit(worker.work(store, workspace, run_id, execute))


def start(workspace: Workspace, run_id: str) -> BaseProcess:
    """Start an attempt in a process of its own."""
    process = _context.Process(target=work, args=(workspace.root, run_id), daemon=True)
    process.start()
    return process


def complete(store: Store, workspace: Workspace, run_id: str) -> float:
    """Let a run go on to its end; seconds that it took."""
    began = time.monotonic()
    process = start(workspace, run_id)
    process.join(300)
    run = store.get(run_id)
    assert run.state is RunState.COMPLETED, (run.state, run.failure_reason, run.traceback)
    return time.monotonic() - began


def kill(process: BaseProcess) -> None:
    """Kill a process, as the system does when memory runs out."""
    process.kill()
    process.join()
