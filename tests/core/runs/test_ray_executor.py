"""The queue on a Ray cluster of two nodes on this machine, one of which dies."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.config.run import RunSpec
from core.errors import ConfigurationError
from core.reporter import Reporter
from core.runs import queue
from core.runs.run import RunState
from core.runs.store import Store
from core.workspace import Workspace
from tests.support import cluster as cluster_of
from tests.support.cluster import cluster

__all__ = ["cluster"]

EPOCHS = 60
pytestmark = cluster_of.marks


@pytest.fixture
def execute() -> Callable[..., dict[str, Any]]:
    """Counts to the epochs of a specification; defined here, so that Ray takes it along."""

    def counts(
        spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
    ) -> dict[str, Any]:
        import ray

        from core.errors import Stopped

        with (folder / "nodes.txt").open("a") as nodes:
            nodes.write(ray.get_runtime_context().get_node_id() + "\n")
        checkpoint, go = folder / "checkpoint.pt", cache.parent / "go"
        first = int(checkpoint.read_text()) if resume and checkpoint.exists() else 0
        if resume:
            report.rewind(first)
        for epoch in range(first, spec.train.epochs):
            while epoch == spec.train.epochs // 2 and not go.exists():
                if report.stop_requested():
                    raise Stopped
                time.sleep(0.05)
            report.metric("val/auroc", epoch / spec.train.epochs, epoch=epoch, step=epoch)
            fresh = folder / "checkpoint.new"
            fresh.write_text(str(epoch + 1))
            fresh.replace(checkpoint)
        return {"scores": {"test": {"auroc": 0.8, "per_finding": {}}}}

    return counts


def test_runs_of_a_node_that_dies_go_on_at_another(
    cluster: Any, store: Store, workspace: Workspace, execute: Any, until: Any
) -> None:
    from core.runs.ray_executor import RayScheduler

    spec = RunSpec.of(**{"train.epochs": EPOCHS})
    runs = [queue.submit(store, spec, name=f"counts {i}") for i in range(3)]
    scheduler = RayScheduler(store, workspace, execute=execute, address=cluster.address)
    scheduler.start()
    try:
        until(lambda: all(store.count_metrics(run.id) == EPOCHS // 2 for run in runs[:2]), 240)
        assert store.get(runs[2].id).state is RunState.QUEUED  # there is no third core
        where = {nodes(workspace, run.id)[0]: run.id for run in runs[:2]}
        assert len(where) == 2
        bereft = where.pop(cluster.other.node_id)
        ((lasting, going),) = where.items()
        cluster.remove_node(cluster.other, allow_graceful=False)
        until(lambda: store.get(bereft).state in (RunState.QUEUED, RunState.STARTING), 240)

        assert queue.stop(store, going).state is RunState.STOPPING
        until(lambda: store.get(going).state is RunState.STOPPED, 120)
        (workspace.root / "go").touch()
        for run_id in (bereft, runs[2].id):
            until(lambda one=run_id: store.get(one).state is RunState.COMPLETED, 240)
    finally:
        scheduler.stop()
    resumed = store.get(bereft)
    assert resumed.attempts == 2
    assert nodes(workspace, bereft) == [cluster.other.node_id, lasting]
    assert [row.step for row in store.metrics(bereft)] == list(range(EPOCHS))
    assert "Attempt 2" in (workspace.run(bereft) / "log.txt").read_text()


def nodes(workspace: Workspace, run_id: str) -> list[str]:
    return (workspace.run(run_id) / "nodes.txt").read_text().split()


def test_a_cluster_that_is_not_there_is_a_sentence(store: Store, workspace: Workspace) -> None:
    from core.runs.ray_executor import RayScheduler

    def never(*given: Any) -> dict[str, Any]:
        raise AssertionError(json.dumps("nothing was to be carried out"))

    with pytest.raises(ConfigurationError, match="--address"):
        RayScheduler(store, workspace, execute=never, address="nowhere")
