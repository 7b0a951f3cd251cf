"""A real run is stopped in each of its phases within five seconds, and can go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.commands.queueing import command
from core.runs import queue
from core.runs.queue import Scheduler
from core.runs.store import RunState, Store
from core.spec import RunSpec
from core.workspace import Workspace
from tests.core.conftest import radiographs
from tests.reliability.conftest import LONG
from tests.reliability.test_kills import spec_of

__all__ = ["radiographs"]
SECONDS = 5.0


def long_run(root: Path) -> RunSpec:
    spec = spec_of(root, "lora")
    return spec.model_copy(update={"train": spec.train.model_copy(update={"epochs": 2000})})


@pytest.mark.parametrize(
    "phase", ["preparing", "training", *(["starting", "validating"] if LONG else [])]
)
def test_a_run_stops_in_time(
    store: Store, workspace: Workspace, radiographs: Path, phase: str, count: Callable[[str], None]
) -> None:
    phantoms = RunSpec.of(**{"train.device": "cpu"})  # drawing them takes minutes
    run = queue.submit(store, phantoms if phase == "preparing" else long_run(radiographs))
    scheduler = Scheduler(store, workspace, command=command(workspace))
    scheduler.start()
    try:
        until = time.monotonic() + 240
        while not (store.get(run.id).phase or "").startswith(phase):
            assert time.monotonic() < until, store.get(run.id)
            time.sleep(0.01)
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
    if phase in ("training", "validating"):
        assert (workspace.run(run.id) / "checkpoint.pt").exists()
    count(f"Stopped while {phase} after {seconds:.1f} s")
    assert seconds < SECONDS
