"""A process of a run that only counts its epochs: ``tiny_run.py RUN WORKSPACE``.

The name of the run selects its behaviour: ``counts``, ``slow``, ``refused``, ``breaks``,
``disk full``, ``dies before``, ``dies``, and ``deaf``, which ignores both stop requests and
SIGTERM, as does its child process.
"""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from core.config.run import RunSpec
from core.errors import DataError, Stopped
from core.reporter import Reporter
from core.runs import worker
from core.runs.store import open_store
from core.workspace import open_workspace


def main() -> int:
    run_id, root = sys.argv[1:]
    workspace = open_workspace(root)
    store = open_store(workspace, create=False)
    behaviour = store.get(run_id).name
    if behaviour == "dies before":
        raise SystemExit("there is no such module")

    def execute(
        spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
    ) -> dict[str, Any]:
        with (folder / "starts.txt").open("a") as starts:
            starts.write(f"{os.getpid()} {resume}\n")
        report.log(f"counting to {spec.train.epochs}")
        if behaviour == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if behaviour == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = subprocess.Popen(["sleep", "600"])
            (folder / "child.txt").write_text(str(child.pid))
            time.sleep(600)
        if behaviour == "refused":
            raise DataError("There are no radiographs.", "Download them.")
        if behaviour == "breaks":
            raise ZeroDivisionError("two words\nand a second line")
        if behaviour == "disk full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "weights")
        return count(
            spec.train.epochs, folder / "checkpoint.pt", report, resume, behaviour == "slow"
        )

    return worker.work(store, workspace, run_id, execute)


def count(
    epochs: int, checkpoint: Path, report: Reporter, resume: bool, slow: bool
) -> dict[str, Any]:
    first = int(checkpoint.read_text()) if resume and checkpoint.exists() else 0
    if resume:
        report.rewind(2 * first)
    for epoch in range(first, epochs):
        if report.stop_requested():
            raise Stopped
        time.sleep(0.03 if slow else 0.001)
        report.metric("train/loss", 1 / (epoch + 1), epoch=epoch + 1, step=epoch)
        report.metric("val/auroc", auroc(epoch, epochs), epoch=epoch + 1, step=epoch)
        report.progress((epoch + 1) / epochs, 1.0, f"epoch {epoch + 1}")
        fresh = checkpoint.with_suffix(".new")
        fresh.write_text(str(epoch + 1))
        fresh.replace(checkpoint)
    return {
        "scores": {"test": {"auroc": 0.8, "per_finding": {"Edema": 0.8}}},
        "trainable": 10,
        "total": 100,
        "device": "cpu",
        "best_auroc": auroc(epochs - 1, epochs),
        "last_auroc": auroc(epochs - 1, epochs),
    }


def auroc(epoch: int, epochs: int) -> float:
    return 0.5 + 0.4 * (epoch + 1) / epochs


if __name__ == "__main__":
    raise SystemExit(main())
