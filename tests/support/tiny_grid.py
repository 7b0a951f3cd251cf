"""A grid of four tiny runs on a folder of radiographs: ``tiny_grid.py WORKSPACE RADIOGRAPHS``.

Prints a line when a run starts or ends and after each epoch, so that a test can kill it in between.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from core.config.run import RunSpec
from core.experiments import run_grid
from core.experiments.paper.grid import Cell
from core.experiments.paper.tasks import MINIATURE, PAPER_METHODS
from core.reporter import NullReporter, Reporter
from core.runs.run import Run
from core.runs.store import open_store
from core.training.loop import fine_tune
from core.workspace import open_workspace


class Lines(NullReporter):
    """Prints each start, epoch and end of a run."""

    def run_started(self, cell: Cell, run: Run) -> Reporter:
        print("started", cell.method, cell.seed, run.id, run.attempts, flush=True)
        return self

    def run_awaited(self, cell: Cell, run: Run) -> None:
        print("awaited", run.id, flush=True)

    def run_ended(self, cell: Cell, run: Run) -> None:
        print("ended", cell.method, cell.seed, run.state, flush=True)

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        if name == "val/auroc":
            print("epoch", epoch, flush=True)


def grid(radiographs: Path, epochs: int = 6) -> list[Cell]:
    """LoRA and full fine-tuning with two seeds each."""
    fields: dict[str, Any] = {
        "data.name": "folder", "data.root": radiographs, "data.label_fraction": 1.0,
        "model.backbone": "timm:test_vit", "model.pretrained": False, "model.input_size": 64,
        "train.epochs": epochs, "train.batch_size": 16, "train.device": "cpu", "adapter.rank": 2,
    }  # fmt: skip
    return [
        Cell(
            MINIATURE[0],
            method,
            seed,
            RunSpec.of(**fields, **{"adapter.method": method, "train.seed": seed}),
        )
        for seed in range(2)
        for method in PAPER_METHODS
    ]


def execute(
    spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
) -> dict[str, Any]:
    return fine_tune(spec, folder, cache, report, resume=resume)


def main() -> None:
    workspace = open_workspace(sys.argv[1])
    store = open_store(workspace, create=True)
    result = run_grid.run_grid(grid(Path(sys.argv[2])), store, workspace, execute, Lines())
    print("completed", result.completed, flush=True)


if __name__ == "__main__":
    main()
