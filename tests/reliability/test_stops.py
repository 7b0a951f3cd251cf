"""A real run is stopped in each of its phases and can be resumed; the time is reported."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.config.run import RunSpec
from core.runs import queue
from core.runs.run import RunState
from core.runs.scheduler import Scheduler
from core.runs.store import Store
from core.training.checkpoint import CHECKPOINT
from core.workspace import Workspace
from tests.core.conftest import radiographs
from tests.reliability.conftest import LONG
from tests.reliability.test_kills import spec_of

pytestmark = pytest.mark.slow

__all__ = ["radiographs"]


def long_run(root: Path) -> RunSpec:
    """A run that is still training when the test ends, a picture a step."""
    spec = spec_of(root, "lora")
    lasting = {"epochs": 2000, "batch_size": 1}
    return spec.model_copy(update={"train": spec.train.model_copy(update=lasting)})


def reached(store: Store, workspace: Workspace, run_id: str, phase: str) -> bool:
    """Whether the run is in this phase; saving is seen by the file that is being written."""
    run = store.get(run_id)
    assert run.state in queue.PENDING, (run.state, run.failure_reason)
    if phase == "saving":
        return any(workspace.run(run_id).glob(f".{CHECKPOINT}.*.part"))
    return (run.phase or "").startswith(phase)


@pytest.mark.parametrize(
    "phase", ["preparing", "training", "saving", *(["starting", "validating"] if LONG else [])]
)
def test_a_run_stops_in_time(
    store: Store, workspace: Workspace, radiographs: Path, phase: str, count: Callable[[str], None]
) -> None:
    phantoms = RunSpec.of(**{"train.device": "cpu"})  # drawing them takes minutes
    run = queue.submit(store, phantoms if phase == "preparing" else long_run(radiographs))
    scheduler = Scheduler(store, workspace)
    scheduler.start()
    try:
        until = time.monotonic() + 120
        while not reached(store, workspace, run.id, phase):
            assert time.monotonic() < until, store.get(run.id)
            time.sleep(0.002)
        began = time.monotonic()
        queue.stop(store, run.id)
        while store.get(run.id).state is RunState.STOPPING:
            assert time.monotonic() < began + 30
            time.sleep(0.01)
        seconds = time.monotonic() - began
    finally:
        scheduler.stop()
        if store.get(run.id).state in queue.PENDING:
            queue.stop_now(store, run.id)
    assert store.get(run.id).state is RunState.STOPPED
    assert queue.resume(store, run.id).state is RunState.QUEUED
    if phase in ("training", "saving", "validating"):
        assert (workspace.run(run.id) / CHECKPOINT).exists()
    count(f"Stopped while {phase} after {seconds:.1f} s")
