"""Specifications of small runs, and an observer that records what a run reports."""

from core.config.run import RunSpec
from core.reporter import NullReporter


def counting(epochs: int = 3) -> RunSpec:
    """A run of ``tiny_run.py`` with so many epochs."""
    return RunSpec.of(**{"train.epochs": epochs})


def specs(count: int) -> list[RunSpec]:
    """Specifications that differ in their seed."""
    return [RunSpec.of(**{"train.seed": seed}) for seed in range(count)]


class Noting(NullReporter):
    """An observer that notes what it is told."""

    def __init__(self) -> None:
        self.metrics: list[tuple[str, float]] = []
        self.lines: list[str] = []
        self.phases: list[str] = []
        self.asks = False

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        self.metrics.append((name, value))

    def progress(self, fraction: float, seconds_left: float | None, phase: str) -> None:
        self.phases.append(phase)

    def log(self, text: str) -> None:
        self.lines.append(text)

    def stop_requested(self) -> bool:
        return self.asks
