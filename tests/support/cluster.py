"""A Ray cluster of two nodes on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

marks = [
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is not installed: pip install -e '.[ray]'",
    ),
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of sockets, processes and old interfaces
]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes with one core each; a test may kill the node ``other``."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # otherwise a busy machine leaves them no time
    for limit in ("worker_register_timeout_seconds", "agent_register_timeout_ms"):
        monkeypatch.setenv(f"RAY_{limit}", "300000" if limit.endswith("ms") else "300")
    import ray
    from ray._private import services
    from ray.cluster_utils import Cluster

    monkeypatch.setattr(services, "get_node", retried(services.get_node))
    plain = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    core = {"num_cpus": 1, "num_gpus": 0}
    made = Cluster(initialize_head=True, head_node_args={**core, **plain, **ports()})
    made.other = made.add_node(**core, include_log_monitor=False, **ports())
    yield made
    ray.shutdown()
    made.shutdown()


def ports() -> dict[str, int]:
    """Ports of a node's processes; Ray kills a node that takes long to find free ports."""
    names = ("metrics_agent", "metrics_export", "dashboard_agent_listen", "runtime_env_agent")
    with contextlib.ExitStack() as taken:
        probes = [taken.enter_context(socket.socket()) for _ in names]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return {f"{n}_port": p.getsockname()[1] for n, p in zip(names, probes, strict=True)}


def retried(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Wait longer than Ray's half a minute for a node to start, for busy machines."""

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
