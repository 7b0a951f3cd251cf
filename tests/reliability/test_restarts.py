"""The app's scheduler is killed and started again, twice at once too, and clocks are set back."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from core.config.run import RunSpec
from core.runs import queue
from core.runs.lost_runs import reconcile
from core.runs.queue import PENDING
from core.runs.run import Run, RunState
from core.runs.scheduler import Scheduler
from core.runs.store import Store
from core.workspace import Workspace
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

SCHEDULING = ROOT / "tests" / "support" / "scheduling.py"
RESTARTS, RESTARTS_LONG = 3, 20
GOING = 4


def counting(epochs: int) -> RunSpec:
    return RunSpec.of(**{"train.epochs": epochs})


def served(workspace: Workspace, slots: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(SCHEDULING), str(workspace.root), str(slots)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "serving\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def wait(condition: Callable[[], object], seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def starts(workspace: Workspace, run: Run) -> int:
    return len((workspace.run(run.id) / "starts.txt").read_text().splitlines())


def stop_all(store: Store) -> None:
    for run in store.list(states=PENDING):
        queue.stop_now(store, run.id)


def test_runs_outlive_every_restart(
    store: Store, workspace: Workspace, long: bool, count: Callable[[str], None]
) -> None:
    runs = [queue.submit(store, counting(10_000), name="slow") for _ in range(GOING)]
    draw, restarts = random.Random(6), RESTARTS_LONG if long else RESTARTS
    server = served(workspace, GOING)
    try:
        wait(lambda: all(store.count_metrics(run.id) for run in runs))
        for _ in range(restarts):
            end(server)
            server = served(workspace, GOING)
            time.sleep(draw.random())
            assert [store.get(run.id).state for run in runs] == [RunState.RUNNING] * GOING
        before = [store.count_metrics(run.id) for run in runs]
        wait(lambda: all(store.count_metrics(r.id) > n for r, n in zip(runs, before, strict=True)))
        for run in runs:
            queue.stop(store, run.id)
        wait(lambda: not store.list(states=PENDING))
    finally:
        stop_all(store)
        end(server)
    ended = [store.get(run.id) for run in runs]
    assert [run.state for run in ended] == [RunState.STOPPED] * GOING
    assert [run.attempts for run in ended] == [1] * GOING
    assert [starts(workspace, run) for run in runs] == [1] * GOING
    count(f"{restarts} restarts of the scheduler by SIGKILL with {GOING} runs going: none lost")


def test_two_apps_start_no_run_twice(
    store: Store, workspace: Workspace, long: bool, count: Callable[[str], None]
) -> None:
    runs = [queue.submit(store, counting(3), name="counts") for _ in range(60 if long else 8)]
    servers = [served(workspace, 2) for _ in range(2)]
    try:
        wait(lambda: not store.list(states=PENDING), 600)
    finally:
        for server in servers:
            end(server)
    assert [store.get(run.id).state for run in runs] == [RunState.COMPLETED] * len(runs)
    twice = sum(starts(workspace, run) != 1 for run in runs)
    count(f"Two schedulers on one workspace, {len(runs)} runs: {twice} started twice")
    assert twice == 0


@contextmanager
def clock_set_back(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[None]:
    """This process's wall clock goes on from an earlier time."""
    real = time.time
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: real() - seconds)
        yield


def test_a_clock_that_is_set_back_loses_nothing(
    store: Store,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    count: Callable[[str], None],
) -> None:
    def command(run: Run) -> list[str]:
        return [sys.executable, str(SCHEDULING.with_name("tiny_run.py")), run.id,
                str(workspace.root)]  # fmt: skip

    runs = [queue.submit(store, counting(10_000), name="slow") for _ in range(2)]
    scheduler = Scheduler(store, workspace, 2, command=command)
    try:
        scheduler.step()
        wait(lambda: all(store.count_metrics(run.id) for run in runs))
        for hours in (1, 0, -1):
            with clock_set_back(monkeypatch, 3600.0 * hours):
                for _ in range(3):
                    scheduler.step()
                assert reconcile(store) == []
                assert [store.get(run.id).state for run in runs] == [RunState.RUNNING] * 2
        with clock_set_back(monkeypatch, 3600.0):
            for run in runs:
                assert queue.stop_now(store, run.id).state is RunState.STOPPED
    finally:
        stop_all(store)
    assert all((store.get(run.id).seconds or 0) >= 0 for run in runs)
    count("A clock an hour behind, right, and an hour ahead with 2 runs going: none lost")
