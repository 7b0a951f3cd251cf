"""Real training on a Ray cluster, started from the command line: a node dies, its run goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.runs import queue
from core.runs.run import RunState
from core.runs.store import open_store
from core.workspace import Workspace
from tests.core.conftest import radiographs
from tests.core.runs.conftest import until
from tests.reliability.test_kills import end_of, spec_of
from tests.support import cluster as cluster_of
from tests.support.cluster import cluster

__all__ = ["cluster", "radiographs", "until"]
pytestmark = [*cluster_of.marks, pytest.mark.slow]

EPOCHS = 150


def test_training_on_a_node_that_dies_ends_as_on_one_that_does_not(
    cluster: Any,
    anywhere: Workspace,
    radiographs: Path,
    until: Callable[..., None],
    count: Callable[[str], None],
) -> None:
    store = open_store(anywhere, create=True)
    spec = spec_of(radiographs, "lora")
    train = spec.train.model_copy(update={"epochs": EPOCHS})
    runs = [queue.submit(store, spec.model_copy(update={"train": train})) for _ in range(2)]
    words = [sys.executable, "-m", "core", "serve", "--workspace", str(anywhere.root)]
    words += ["--executor", "ray", "--address", cluster.address]
    raylet = cluster.other.all_processes["raylet"][0].process.pid
    with subprocess.Popen(words) as serving:
        try:
            for run in runs:
                until(lambda one=run.id: store.get(one).state is RunState.RUNNING, 240)
            bereft = next(run.id for run in runs if under(store.get(run.id).pid, raylet))
            lasting = next(run.id for run in runs if run.id != bereft)
            until(lambda: store.count_metrics(bereft) > 50, 240)
            assert store.get(bereft).state is RunState.RUNNING
            cluster.remove_node(cluster.other, allow_graceful=False)
            for one in (lasting, bereft):
                until(lambda one=one: store.get(one).state is RunState.COMPLETED, 400)
        finally:
            serving.terminate()
            serving.wait(60)
    assert (store.get(lasting).attempts, store.get(bereft).attempts) == (1, 2)
    ends = [end_of(store, anywhere, one) for one in (lasting, bereft)]
    assert ends[0] == ends[1]
    kind = "PostgreSQL" if "CXR_STORE" in os.environ else "SQLite"
    count(f"Ray, store in {kind}: a node died under training; identical weights and metric rows")


def under(pid: int | None, ancestor: int) -> bool:
    """Whether a process was started by another, or by one that it started."""
    return pid is not None and ancestor in [one.pid for one in psutil.Process(pid).parents()]
