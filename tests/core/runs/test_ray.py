"""The queue on a Ray cluster of two nodes on this machine, one of which dies."""

import contextlib
import importlib.util
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigurationError
from core.reporting import Reporter
from core.runs import queue
from core.runs.store import RunState, Store
from core.spec import RunSpec
from core.workspace import Workspace

EPOCHS = 60
missing = importlib.util.find_spec("ray") is None
pytestmark = [
    pytest.mark.skipif(missing, reason="Ray is not installed: pip install -e '.[ray]'"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of sockets, processes and old interfaces
]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of a core each; ``other`` is the one that may die."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    for limit in ("worker_register_timeout_seconds", "agent_register_timeout_ms"):
        monkeypatch.setenv(f"RAY_{limit}", "300000" if limit.endswith("ms") else "300")
    import ray
    from ray._private import services
    from ray.cluster_utils import Cluster

    monkeypatch.setattr(services, "get_node", patiently(services.get_node))
    plain = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    core = {"num_cpus": 1, "num_gpus": 0}
    made = Cluster(initialize_head=True, head_node_args={**core, **plain, **ports()})
    made.other = made.add_node(**core, include_log_monitor=False, **ports())
    yield made
    ray.shutdown()
    made.shutdown()


def ports() -> dict[str, int]:
    """Ports of a node's parts; Ray ends a node that takes long to find some by itself."""
    names = ("metrics_agent", "metrics_export", "dashboard_agent_listen", "runtime_env_agent")
    with contextlib.ExitStack() as taken:
        probes = [taken.enter_context(socket.socket()) for _ in names]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return {f"{n}_port": p.getsockname()[1] for n, p in zip(names, probes, strict=True)}


def patiently(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Ray waits half a minute for a node to begin, which is short on a busy machine."""

    def answered(*given: Any, **named: Any) -> Any:
        until = time.monotonic() + 300
        while True:
            try:
                return ask(*given, **named)
            except RuntimeError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    return answered


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
    from core.runs.ray import RayScheduler

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
    from core.runs.ray import RayScheduler

    def never(*given: Any) -> dict[str, Any]:
        raise AssertionError(json.dumps("nothing was to be carried out"))

    with pytest.raises(ConfigurationError, match="--address"):
        RayScheduler(store, workspace, execute=never, address="nowhere")
