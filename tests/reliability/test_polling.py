"""Many clients ask the explorer for all runs at once while runs write."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable

import numpy as np
import psutil
import pytest

from core.config.run import RunSpec
from core.runs.store import Store
from core.workspace import Workspace
from tests.reliability.test_writers import CODE
from tests.support.paths import ROOT
from tests.support.served import Explorer

pytestmark = pytest.mark.slow

RUNS = 4


def through_gradio(url: str) -> None:
    """What ``gradio_client`` does to list the runs: two requests."""
    body = json.dumps({"data": []}).encode()
    kind = {"Content-Type": "application/json"}
    place = f"{url}gradio_api/call/runs"
    request = urllib.request.Request(place, body, kind)
    with urllib.request.urlopen(request, timeout=240) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{place}/{event}", timeout=240) as answer:
        said = answer.read().decode()
    assert "event: complete" in said, said


def plainly(url: str) -> None:
    with urllib.request.urlopen(f"{url}api/runs", timeout=240) as answer:
        assert len(json.load(answer)) == RUNS


def test_clients_are_answered_while_runs_write(
    store: Store, workspace: Workspace, long: bool, count: Callable[[str], None]
) -> None:
    clients, seconds = (50, 30.0) if long else (10, 4.0)
    runs = [store.create(RunSpec(), name=f"writes {i}") for i in range(RUNS)]
    for _ in runs:  # held by this process, so that no scheduler starts them
        store.claim_next({"cpu": 99})
    explorer = Explorer(workspace.root)
    writers: list[subprocess.Popen[bytes]] = []
    try:
        explorer.start()
        for run in runs:
            arguments = [workspace.root, run.id, "100000000", "20", "200"]
            writers.append(subprocess.Popen([sys.executable, "-c", CODE, *arguments], cwd=ROOT))
        # Gradio's way is measured beside it, with fewer: fifty would fill its queue for minutes.
        ways = {"GET /api/runs": (plainly, clients), "Gradio's endpoint": (through_gradio, 5)}
        for way, (ask, clients) in ways.items():
            times, faults, spent = poll(explorer, ask, clients, seconds)
            p95 = float(np.quantile(times, 0.95)) if times else float("nan")
            each = 1000 * spent / max(1, len(times))
            count(
                f"{way}: {clients} clients while {RUNS} processes write 100 rows a second each: "
                f"{len(times)} answers, p95 {p95:.2f} s, {len(faults)} errors, {each:.1f} ms of "
                "the processor each"
            )
            assert all(writer.poll() is None for writer in writers)
            assert not faults, faults[0]
            assert len(times) >= clients
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
        explorer.kill()


def poll(
    explorer: Explorer, ask: Callable[[str], None], clients: int, seconds: float
) -> tuple[list[float], list[Exception], float]:
    """Seconds of each answer, what went wrong, and the explorer's own time on the processor."""
    times: list[float] = []
    faults: list[Exception] = []
    until = time.monotonic() + seconds

    def client() -> None:
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                ask(explorer.url)
            except Exception as error:
                faults.append(error)
                return
            times.append(time.monotonic() - began)
            time.sleep(max(0.0, 1.0 - times[-1]))  # as often as a page asks

    assert explorer.process is not None
    served = psutil.Process(explorer.process.pid)
    before = served.cpu_times()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = served.cpu_times()
    return times, faults, after.user + after.system - before.user - before.system
