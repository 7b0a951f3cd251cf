"""Carry out the runs of a grid one after the other; whatever ends it, the same call goes on."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from core.config.run import RunSpec
from core.errors import RunError
from core.experiments.cells import key, pick, standing
from core.reporter import Reporter
from core.runs import queue, worker
from core.runs.run import ACTIVE, Run, RunState
from core.runs.store import Store
from core.workspace import Workspace

POLL_SECONDS = 1.0


class Planned(Protocol):
    """One run of a grid, whatever grid that is."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def spec(self) -> RunSpec:
        """What is carried out."""


Cell = TypeVar("Cell", bound=Planned)
Told = TypeVar("Told", bound=Planned, contravariant=True)


class Listener(Protocol[Told]):
    """Told how a grid gets on."""

    def begins(self, cell: Told, run: Run) -> Reporter:
        """A run begins, or goes on; what is returned is told its progress."""

    def waits(self, cell: Told, run: Run) -> None:
        """Another process is carrying this cell out."""

    def ends(self, cell: Told, run: Run) -> None:
        """A run has ended, however it did."""


@dataclass(frozen=True)
class Ending:
    """What came of a grid.

    Attributes:
        completed: Cells that this call completed.
        failed: Runs that failed; the others went on.
        stopped: Whether it was asked to stop before the end.
    """

    completed: int
    failed: tuple[Run, ...]
    stopped: bool


def run_grid(
    cells: Iterable[Cell],
    store: Store,
    workspace: Workspace,
    execute: worker.Execute,
    listener: Listener[Cell],
    wait: Callable[[float], None] = time.sleep,
) -> Ending:
    """Bring each cell to its end, in this process.

    A cell that is done is not run again; one that was interrupted goes on from its checkpoint; one
    that another process is at is waited for. Each run is a run like any other: stopped on the Runs
    page or by a signal it writes a checkpoint, and the grid ends there.

    Args:
        cells: The grid, in the order in which it is carried out.
        store: The workspace's store.
        workspace: Where the runs' folders are.
        execute: What carries out one run.
        listener: Told how it gets on.
        wait: Waits for some seconds.
    """
    completed = 0
    failed: list[Run] = []
    for cell in cells:
        done = False
        while not done:
            run = _take(cell, store, workspace, listener, wait)
            if run is None:
                break
            try:
                worker.work(store, workspace, run.id, execute, listener.begins(cell, run))
            except RunError:  # another process was quicker
                continue
            run = store.get(run.id)
            listener.ends(cell, run)
            if run.state is RunState.STOPPED:
                return Ending(completed, tuple(failed), stopped=True)
            completed += run.state is RunState.COMPLETED
            failed += [run] if run.state is not RunState.COMPLETED else []
            gc.collect()  # one run's model is not to stand beside the next one's
            done = True
    return Ending(completed, tuple(failed), stopped=False)


def _take(
    cell: Cell,
    store: Store,
    workspace: Workspace,
    listener: Listener[Cell],
    wait: Callable[[float], None],
) -> Run | None:
    """The run that is to be worked at for a cell; None if there is nothing left to do."""
    told = False
    while True:
        queue.reconcile(store)
        run = pick(standing(store.list()).get(key(cell.spec), ()), workspace)
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
        if not told:
            listener.waits(cell, run)
            told = True
        wait(POLL_SECONDS)
