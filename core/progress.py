"""A run's progress in the terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class ProgressBar:
    """A reporter that draws a bar on standard error, with the validation AUROC beside it.

    Args:
        title: What is running.
    """

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
        """Show the mean validation AUROC; other curves are for the store."""
        if name == "val/auroc":
            self._bar.update(self._task, auroc=f"AUROC {value:.3f}")

    def progress(self, fraction: float, seconds_left: float | None, phase: str) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=fraction, description=phase)

    def stop_requested(self) -> bool:
        """Ctrl-C is the worker's to notice, not the bar's."""
        return False

    def log(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)

    def model(self, trainable: int, total: int, device: str) -> None:
        """The log says it, too."""

    def secure(self) -> None:
        """Nothing was kept."""

    def rewind(self, kept: int) -> None:
        """Nothing was kept."""
