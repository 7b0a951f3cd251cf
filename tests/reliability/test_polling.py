"""Many pages ask the explorer at once while runs write."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from core.runs.store import Store
from core.spec import RunSpec
from core.workspace import Workspace
from tests.browser.served import Explorer
from tests.reliability.test_writers import CODE

ROOT = Path(__file__).parents[2]
RUNS = 4


def ask(url: str) -> None:
    """What ``gradio_client`` does to list the runs: two requests."""
    body = json.dumps({"data": []}).encode()
    kind = {"Content-Type": "application/json"}
    place = f"{url}gradio_api/call/runs"
    request = urllib.request.Request(place, body, kind)
    with urllib.request.urlopen(request, timeout=30) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{place}/{event}", timeout=30) as answer:
        said = answer.read().decode()
    assert "event: complete" in said, said


def test_clients_are_answered_while_runs_write(
    store: Store, workspace: Workspace, long: bool, count: Callable[[str], None]
) -> None:
    clients, seconds = (50, 30.0) if long else (10, 5.0)
    runs = [store.create(RunSpec(), name=f"writes {i}") for i in range(RUNS)]
    for _ in runs:  # held by this process, so that no scheduler starts them
        store.claim_next({"cpu": 99})
    explorer = Explorer(workspace.root)
    explorer.start()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, workspace.root, run.id, "100000000", "20", "200"], cwd=ROOT
        )
        for run in runs
    ]
    times: list[float] = []
    faults: list[Exception] = []
    until = time.monotonic() + seconds

    def poll() -> None:
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
    try:
        threads = [threading.Thread(target=poll) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(writer.poll() is None for writer in writers)
        after = served.cpu_times()
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
        explorer.kill()
    p95 = float(np.quantile(times, 0.95)) if times else float("nan")
    spent = after.user + after.system - before.user - before.system
    count(
        f"{clients} clients polling while {RUNS} processes write 100 rows a second each: "
        f"{len(times)} answers, p95 {p95:.2f} s, {len(faults)} errors, "
        f"{1000 * spent / max(1, len(times)):.0f} ms of the processor each"
    )
    assert not faults, faults[0]
    assert len(times) >= clients
