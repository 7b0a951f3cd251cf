"""A run executed in this process or one of its own: how it ends, and what the store keeps."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.config.run import RunSpec
from core.errors import NotFiniteError, RunError
from core.reporter import Reporter
from core.runs import queue, worker
from core.runs.run import RunState
from core.runs.store import Store
from core.workspace import Workspace
from tests.support.runs import Noting


def test_a_run_is_completed_with_its_scores(do: Any, store: Store, workspace: Workspace) -> None:
    scores = {"test": {"auroc": 0.8, "per_finding": {"Edema": 0.8, "Hernia": None}}}

    def steps(report: Reporter) -> dict[str, Any]:
        report.log("It begins.")
        for epoch in (1, 2, 3):
            report.metric("val/auroc/Edema", 0.5, epoch=epoch, step=epoch)
            single: Any = np.float32([0.6, 0.8, 0.7][epoch - 1])  # what arithmetic may leave
            report.metric("val/auroc", single, epoch=epoch, step=epoch)
        return {"scores": scores, "trainable": 5, "total": 10, "device": "cpu", "unknown": object}

    observer = Noting()
    run, code = do(steps, observer)
    assert code == 0
    assert run.state is RunState.COMPLETED
    assert run.scores == scores
    assert (run.trainable, run.total, run.device, run.progress) == (5, 10, "cpu", 1.0)
    assert (run.best_auroc, run.last_auroc) == pytest.approx((0.8, 0.7))
    assert run.seconds is not None
    assert run.finished_at is not None
    assert run.environment is not None
    assert run.environment["python"]
    assert store.count_metrics(run.id) == 6
    assert len(observer.metrics) == 6
    assert "It begins." in observer.lines
    log = (workspace.run(run.id) / "log.txt").read_text()
    assert "  It begins.\n" in log
    assert log.endswith("The run is completed.\n")


def test_a_known_fault_is_told_with_its_remedy(do: Any) -> None:
    def steps(report: Reporter) -> dict[str, Any]:
        report.metric("train/loss", float("nan"), epoch=1, step=1)
        raise NotFiniteError("The loss is not finite.", "Lower the learning rate.")

    run, code = do(steps)
    assert code == 1
    assert run.state is RunState.FAILED
    assert run.failure_kind == "not finite"
    assert run.failure_reason == "The loss is not finite."
    assert run.failure_remedy == "Lower the learning rate."
    assert "NotFiniteError" in (run.traceback or "")


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("refused", "data", "There are no radiographs."),
        ("breaks", "other", "ZeroDivisionError: two words"),
        ("disk full", "other", "The disk is full while writing weights."),
    ],
)
def test_faults_are_sentences(
    store: Store, workspace: Workspace, command: Any, name: str, kind: str, reason: str
) -> None:
    run = queue.submit(store, RunSpec(), name=name)
    assert subprocess.run(command(run), check=False, timeout=120).returncode == 1
    failed = store.get(run.id)
    assert failed.state is RunState.FAILED
    assert failed.failure_kind == kind
    assert reason in (failed.failure_reason or "")
    assert "\n" not in (failed.failure_reason or "")
    assert failed.failure_remedy
    assert "Traceback" in (failed.traceback or "")
    assert reason in (workspace.run(run.id) / "log.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_the_run_with_a_checkpoint(
    store: Store, workspace: Workspace, command: Any, until: Any, number: int
) -> None:
    run = queue.submit(store, RunSpec.of(**{"train.epochs": 2000}), name="slow")
    child = subprocess.Popen(command(run))
    until(lambda: store.count_metrics(run.id) > 2)
    child.send_signal(number)
    assert child.wait(60) == 0
    stopped = store.get(run.id)
    assert stopped.state is RunState.STOPPED
    assert stopped.stop_requested
    reached = int((workspace.run(run.id) / "checkpoint.pt").read_text())
    assert store.count_metrics(run.id) == 2 * reached


def test_a_second_interrupt_ends_at_once(do: Any) -> None:
    def steps(report: Reporter) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGINT)
        assert report.stop_requested()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        raise AssertionError("it went on")

    before = signal.getsignal(signal.SIGINT)
    run, code = do(steps)
    assert code == 0
    assert run.state is RunState.STOPPED
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_stopped_before_it_began_is_not_begun(store: Store, workspace: Workspace) -> None:
    run = queue.claim_here(store, RunSpec())
    assert queue.stop(store, run.id).state is RunState.STOPPING
    assert worker.work(store, workspace, run.id, _never) == 0
    assert store.get(run.id).state is RunState.STOPPED


def test_a_run_is_carried_out_by_one_process(store: Store, workspace: Workspace) -> None:
    run = queue.claim_here(store, RunSpec())
    store.transition(run.id, RunState.RUNNING)
    with pytest.raises(RunError, match="is running"):
        worker.work(store, workspace, run.id, _never)
    assert store.get(run.id).state is RunState.RUNNING


def _never(
    spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
) -> dict[str, Any]:
    raise AssertionError("nothing was to be carried out")


def test_a_long_silence_of_the_run_is_not_death(
    store: Store, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "HEARTBEAT_SECONDS", 0.02)
    run = queue.claim_here(store, RunSpec())
    seen: list[float | None] = []

    def execute(
        spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
    ) -> dict[str, Any]:
        for _ in range(2):
            seen.append(store.get(run.id).heartbeat_at)
            time.sleep(0.2)
        return {}

    # Not in the main thread, as a notebook or a server would have it: signals stay as they are.
    thread = threading.Thread(target=worker.work, args=(store, workspace, run.id, execute))
    thread.start()
    thread.join(20)
    assert store.get(run.id).state is RunState.COMPLETED
    assert seen[0] is not None
    assert seen[1] is not None
    assert seen[1] > seen[0]
