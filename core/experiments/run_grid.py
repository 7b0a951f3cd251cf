"""Run the cells of a grid one after the other, in this process; an interrupted grid continues."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from core.config.run import RunSpec
from core.errors import RunError
from core.experiments.cells import cell_key, runs_by_cell, select_run
from core.reporter import Reporter
from core.runs import queue, worker
from core.runs.lost_runs import reconcile
from core.runs.run import ACTIVE, Run, RunState
from core.runs.store import Store
from core.workspace import Workspace

POLL_SECONDS = 1.0


class GridCell(Protocol):
    """One run of any grid."""

    @property
    def name(self) -> str:
        """Name shown to the user."""

    @property
    def spec(self) -> RunSpec:
        """Specification of the run."""


Cell = TypeVar("Cell", bound=GridCell)
ObservedCell = TypeVar("ObservedCell", bound=GridCell, contravariant=True)


class GridObserver(Protocol[ObservedCell]):
    """Receives the progress of a grid."""

    def run_started(self, cell: ObservedCell, run: Run) -> Reporter:
        """A run starts or is resumed; the returned reporter receives its progress."""

    def run_awaited(self, cell: ObservedCell, run: Run) -> None:
        """Another process executes the run of this cell, and the grid waits for it."""

    def run_ended(self, cell: ObservedCell, run: Run) -> None:
        """A run has ended, in whatever state."""


@dataclass(frozen=True)
class GridResult:
    """Result of running a grid.

    Attributes:
        completed: Number of cells that this call completed.
        failed: Runs that failed; the others were still run.
        stopped: Whether a stop was requested before the last cell.
    """

    completed: int
    failed: tuple[Run, ...]
    stopped: bool


def run_grid(
    cells: Iterable[Cell],
    store: Store,
    workspace: Workspace,
    execute: worker.Execute,
    observer: GridObserver[Cell],
    wait: Callable[[float], None] = time.sleep,
) -> GridResult:
    """Run each cell of a grid in this process.

    A completed cell is not run again, an interrupted one continues from its checkpoint, and the end
    of one that another process executes is awaited. Each run is an ordinary run of the store: if it
    is stopped on the Runs page or by a signal, it writes a checkpoint and the grid ends.

    Args:
        cells: The grid, in the order in which it is run.
        store: The store of the workspace.
        workspace: The workspace with the folders of the runs.
        execute: Function that trains one run.
        observer: Receives the progress.
        wait: Waits for a number of seconds.
    """
    completed = 0
    failed: list[Run] = []
    for cell in cells:
        done = False
        while not done:
            run = _next_run(cell, store, workspace, observer, wait)
            if run is None:
                break
            try:
                worker.work(store, workspace, run.id, execute, observer.run_started(cell, run))
            except RunError:  # another process has started it meanwhile
                continue
            run = store.get(run.id)
            observer.run_ended(cell, run)
            if run.state is RunState.STOPPED:
                return GridResult(completed, tuple(failed), stopped=True)
            completed += run.state is RunState.COMPLETED
            failed += [run] if run.state is not RunState.COMPLETED else []
            gc.collect()  # free the model before the next run loads its own
            done = True
    return GridResult(completed, tuple(failed), stopped=False)


def _next_run(
    cell: Cell,
    store: Store,
    workspace: Workspace,
    observer: GridObserver[Cell],
    wait: Callable[[float], None],
) -> Run | None:
    """The run to execute for a cell, created or resumed; None if the cell is completed."""
    awaited = False
    while True:
        reconcile(store)
        run = select_run(runs_by_cell(store.list()).get(cell_key(cell.spec), ()), workspace)
        if run is None:
            return queue.claim_here(store, cell.spec)
        if run.state is RunState.COMPLETED:
            return None
        if run.state is RunState.QUEUED:
            return run
        if run.state not in ACTIVE:
            try:
                return queue.resume(store, run.id)
            except RunError:
                continue
        if not awaited:
            observer.run_awaited(cell, run)
            awaited = True
        wait(POLL_SECONDS)
