"""Progress bars of runs in the terminal."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from core.formatting import auroc
from core.reporter import MEAN_AUROC, PART_AUROC, NullReporter, Reporter
from core.runs.run import Run


class ProgressBar(NullReporter):
    """Reporter that shows progress and validation AUROC on standard error."""

    def __init__(self, title: str) -> None:
        self._bar = Progress(
            TextColumn("{task.fields[auroc]}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True),
        )
        self._title = title
        self._task = self._bar.add_task("starting", total=1.0, auroc="AUROC     –")

    def __enter__(self) -> Self:
        self._bar.console.print(self._title, markup=False, highlight=False)
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        """Show the mean validation AUROC."""
        if name in (MEAN_AUROC, PART_AUROC):
            self._bar.update(self._task, auroc=f"AUROC {auroc(value)}")

    def progress(self, fraction: float, seconds_left: float | None, phase: str) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=fraction, description=phase)

    def log(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)


class SharedBar(ProgressBar):
    """One bar for several simultaneous runs: their mean progress and the best AUROC."""

    def __init__(self, title: str, runs: int) -> None:
        super().__init__(title)
        self._runs = runs
        self._done: dict[str, float] = {}
        self._best = -1.0
        self._lock = threading.Lock()

    def reporter(self, run: Run) -> Reporter:
        """Reporter of one of the runs."""
        return _Share(self, run.id)

    def moved(self, run: str, fraction: float, phase: str) -> None:
        """Receive the progress of one run."""
        with self._lock:
            self._done[run] = fraction
            self.progress(sum(self._done.values()) / self._runs, None, phase)

    def scored(self, value: float) -> None:
        """Receive the mean validation AUROC of one run."""
        with self._lock:
            self._best = max(self._best, value)
            self.metric(MEAN_AUROC, self._best, epoch=0, step=0)


class _Share(NullReporter):
    """Reporter of one run of a shared bar."""

    def __init__(self, bar: SharedBar, run: str) -> None:
        self._bar, self._run = bar, run

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        if name == MEAN_AUROC:
            self._bar.scored(value)

    def progress(self, fraction: float, seconds_left: float | None, phase: str) -> None:
        self._bar.moved(self._run, fraction, phase)
