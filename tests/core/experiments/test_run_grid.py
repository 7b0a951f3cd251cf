"""An interrupted grid continues with the same results; completed cells are not run again."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.config.run import RunSpec
from core.errors import DataError, Stopped
from core.experiments import run_grid
from core.experiments.paper.grid import Cell
from core.reporter import NullReporter, Reporter
from core.runs import queue
from core.runs.run import Run, RunState
from core.runs.store import Store, open_store
from core.workspace import Workspace, open_workspace
from tests.support.paths import ROOT
from tests.support.tiny_grid import grid

PROGRAM = ROOT / "tests" / "support" / "tiny_grid.py"


def started(root: Path, radiographs: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(root), str(radiographs)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def scores(root: Path) -> dict[tuple[str, int], Any]:
    runs = open_store(open_workspace(root), create=False).list()
    assert all(run.state is RunState.COMPLETED for run in runs)
    assert len(runs) == 4
    return {(run.spec.adapter.method, run.spec.train.seed): run.scores for run in runs}


@pytest.mark.slow
def test_killed_in_the_middle_it_ends_with_the_same_numbers(
    radiographs: Path, tmp_path: Path
) -> None:
    whole = started(tmp_path / "whole", radiographs)
    said, _ = whole.communicate(timeout=240)
    assert whole.returncode == 0
    assert said.splitlines()[-1] == "completed 4"

    killed = started(tmp_path / "killed", radiographs)
    assert killed.stdout is not None
    begun = epochs = 0
    for line in killed.stdout:
        begun += line.startswith("started")
        epochs += begun == 2 and line.startswith("epoch")
        if epochs == 3:
            killed.send_signal(signal.SIGKILL)
            break
    killed.wait()
    killed.stdout.close()
    before = open_store(open_workspace(tmp_path / "killed"), create=False).list()
    assert sorted(run.state for run in before) == [RunState.COMPLETED, RunState.RUNNING]

    again = started(tmp_path / "killed", radiographs)
    said, _ = again.communicate(timeout=240)
    lines = said.splitlines()
    assert lines[0].split()[:3] == ["started", "full", "0"]
    assert lines[1].startswith("epoch") and float(lines[1].split()[1]) > 1  # noqa: PT018
    assert lines[-1] == "completed 3"
    assert scores(tmp_path / "killed") == scores(tmp_path / "whole")

    third = started(tmp_path / "killed", radiographs)
    assert third.communicate(timeout=240)[0].splitlines() == ["completed 0"]


class Notes(NullReporter):
    """Records the events of a grid."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, int]] = []

    def run_started(self, cell: Cell, run: Run) -> Reporter:
        self.events.append(("started", cell.method, cell.seed))
        return self

    def run_awaited(self, cell: Cell, run: Run) -> None:
        self.events.append(("awaited", cell.method, cell.seed))

    def run_ended(self, cell: Cell, run: Run) -> None:
        self.events.append((str(run.state), cell.method, cell.seed))


@pytest.fixture
def cells(tmp_path: Path) -> list[Cell]:
    return grid(tmp_path)


class Worker:
    """Writes predictions at once, or does what ``trouble`` says for one method."""

    def __init__(self, trouble: dict[str, type[BaseException]] | None = None) -> None:
        self.trouble = trouble or {}
        self.done: list[tuple[str, int]] = []

    def __call__(
        self, spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
    ) -> dict[str, Any]:
        raised = self.trouble.get(spec.adapter.method)
        if raised is not None:
            raise raised("There are no radiographs.")
        self.done.append((spec.adapter.method, spec.train.seed))
        (folder / "predictions").mkdir(exist_ok=True)
        (folder / "predictions" / "test.npz").write_bytes(b"")
        return {"scores": {"test": {"auroc": 0.7}}}


@pytest.mark.slow
def test_a_failure_does_not_keep_the_others_from_being_run(
    cells: list[Cell], store: Store, workspace: Workspace
) -> None:
    notes = Notes()
    result = run_grid.run_grid(cells, store, workspace, Worker({"lora": DataError}), notes)
    assert (result.completed, len(result.failed), result.stopped) == (2, 2, False)
    assert notes.events[:2] == [("started", "lora", 0), ("failed", "lora", 0)]
    repaired = Worker()
    result = run_grid.run_grid(cells, store, workspace, repaired, Notes())
    assert (result.completed, result.failed) == (2, ())
    assert repaired.done == [("lora", 0), ("lora", 1)]
    assert len(store.list()) == 4
    assert all(run.attempts == 2 for run in store.list() if run.spec.adapter.method == "lora")


def test_a_run_that_is_stopped_ends_the_grid(
    cells: list[Cell], store: Store, workspace: Workspace
) -> None:
    result = run_grid.run_grid(cells, store, workspace, Worker({"full": Stopped}), Notes())
    assert (result.completed, result.stopped) == (1, True)
    assert len(store.list()) == 2


def test_queued_runs_are_taken_and_those_of_others_waited_for(
    cells: list[Cell], store: Store, workspace: Workspace
) -> None:
    queue.submit(store, cells[0].spec)
    other = store.create(cells[1].spec, state=RunState.STARTING)
    waited = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        folder = workspace.run(other.id) / "predictions"
        folder.mkdir(parents=True)
        (folder / "test.npz").write_bytes(b"")
        store.transition(other.id, RunState.RUNNING)
        store.transition(other.id, RunState.COMPLETED)

    worker, notes = Worker(), Notes()
    result = run_grid.run_grid(cells[:2], store, workspace, worker, notes, wait)
    assert result.completed == 1
    assert worker.done == [("lora", 0)]
    assert ("awaited", "full", 0) in notes.events
    assert len(waited) == 1
    assert len(store.list()) == 2
