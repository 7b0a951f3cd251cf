"""Runs whose validation AUROC depends on their learning rate, without training.

As a program, ``tuned_run.py RUN WORKSPACE`` is the process of one run, ``tuned_run.py WORKSPACE`` a
tuning of two methods that starts such processes, and ``tuned_run.py background WORKSPACE`` a
process that runs the tunings of a workspace in the background, as the explorer does.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from core.config.run import RunSpec
from core.errors import Stopped
from core.experiments.tune import background
from core.experiments.tune.background import BackgroundTunings
from core.experiments.tune.plan import Plan
from core.experiments.tune.tune import Tuning
from core.reporter import Reporter
from core.runs import worker
from core.runs.run import Run
from core.runs.scheduler import Scheduler
from core.runs.store import Store, open_store
from core.workspace import Workspace, open_workspace
from tests.support.completed import write_predictions

BEST = {"lora": 0.01, "full": 0.003, "linear": 0.02}
"""Best learning rate of each method."""
EPOCH_SECONDS = "CXR_TEST_EPOCH_SECONDS"
BASE = RunSpec.of(**{"train.epochs": 4, "train.device": "cpu"})


def quality(spec: RunSpec) -> float:
    """Validation AUROC of a run: highest at the method's best learning rate."""
    distance = math.log10(spec.resolved().train.lr / BEST[spec.adapter.method])
    return 0.5 + 0.4 * math.exp(-(distance**2)) - 0.001 * (spec.train.seed % 7)


def execute(
    spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
) -> dict[str, Any]:
    """Report the epochs of a run and write its predictions."""
    seconds, checkpoint = float(os.environ.get(EPOCH_SECONDS, "0")), folder / "checkpoint.pt"
    first = int(checkpoint.read_text()) if resume and checkpoint.exists() else 0
    if resume:
        report.rewind(first)
    with (folder / "starts.txt").open("a") as starts:
        starts.write(f"{first}\n")
    for epoch in range(first, spec.train.epochs):
        until = time.monotonic() + seconds
        while True:
            if report.stop_requested():
                raise Stopped
            if time.monotonic() >= until:
                break
            time.sleep(0.02)
        value = 0.5 + (quality(spec) - 0.5) * (epoch + 1) / spec.train.epochs
        report.metric("val/auroc", value, epoch=epoch + 1, step=epoch + 1)
        report.secure()
        checkpoint.write_text(str(epoch + 1))
    test = write_predictions(folder, spec, skill=4 * (quality(spec) - 0.5), studies=120)
    return {
        "scores": {"test": {"auroc": test, "per_finding": {"Edema": test}}},
        "trainable": 10,
        "total": 100,
        "device": "cpu",
        "best_auroc": quality(spec),
        "last_auroc": quality(spec),
    }


@contextlib.contextmanager
def served(store: Store, workspace: Workspace, run: Any = execute) -> Iterator[None]:
    """Execute queued runs one after the other, in a thread of this process."""
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            claimed = store.claim_next({"cpu": 1})
            if claimed is None:
                ended.wait(0.01)
            else:
                worker.work(store, workspace, claimed.id, run)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)


def plan(**changed: Any) -> Plan:
    """A tuning of two methods with four trials each."""
    fields: dict[str, Any] = {
        "methods": ("lora", "full"), "trials": 4, "final_seeds": (1, 2), "prune": False
    }  # fmt: skip
    return Plan(BASE, **fields | changed)


def _scheduler(store: Store, workspace: Workspace) -> Scheduler:
    def command(*runs: Run) -> list[str]:
        return [sys.executable, __file__, *(run.id for run in runs), str(workspace.root)]

    return Scheduler(store, workspace, command=command)


def _tune(root: str) -> None:
    workspace = open_workspace(root)
    store = open_store(workspace, create=True)
    scheduler = _scheduler(store, workspace)
    scheduler.start()
    tuning = Tuning(plan(), store, workspace, report=lambda line: print(line, flush=True))
    print("complete", tuning.run(), flush=True)
    scheduler.stop()


def _serve(root: str) -> None:
    workspace = open_workspace(root)
    store = open_store(workspace, create=True)
    _scheduler(store, workspace).start()
    background.POLL_SECONDS = 0.05
    BackgroundTunings(store, workspace).start()
    print("serving", flush=True)
    while True:
        time.sleep(60)


def main() -> int:
    """Execute a run, the tuning, or tunings in the background."""
    if len(sys.argv) == 2:
        _tune(sys.argv[1])
        return 0
    if sys.argv[1] == "background":
        _serve(sys.argv[2])
    run_id, root = sys.argv[1:]
    workspace = open_workspace(root)
    return worker.work(open_store(workspace, create=False), workspace, run_id, execute)


if __name__ == "__main__":
    raise SystemExit(main())
