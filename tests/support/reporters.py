"""Reporters for tests of training: they record calls, ask to stop, or end the process."""

from __future__ import annotations

from core.reporter import NullReporter


class Notes(NullReporter):
    """Records all reports, and asks the run to stop at the ``stop``-th check."""

    def __init__(self, stop: int | None = None) -> None:
        self.metrics: list[tuple[str, float, float, int]] = []
        self.phases: list[str] = []
        self.fractions: list[float] = []
        self.lines: list[str] = []
        self.parameters: tuple[int, int] | None = None
        self.asked, self.stop = 0, stop

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        self.metrics.append((name, value, epoch, step))

    def progress(self, fraction: float, seconds_left: float | None, phase: str) -> None:
        self.fractions.append(fraction)
        self.phases.append(phase)

    def stop_requested(self) -> bool:
        self.asked += 1
        return self.stop is not None and self.asked >= self.stop

    def model(self, trainable: int, total: int, device: str) -> None:
        self.parameters = trainable, total

    def log(self, text: str) -> None:
        self.lines.append(text)

    def rewind(self, kept: int) -> None:
        del self.metrics[kept:]

    def curves(self) -> list[tuple[str, float, float, int]]:
        """What does not depend on the machine's speed."""
        return [one for one in self.metrics if one[0] != "train/images_per_s"]


class Killed(Exception):  # noqa: N818 - it is no error of the program
    """The process ends in the middle of a step."""


class Fatal(Notes):
    """Ends the process at the ``stop``-th check, in the middle of a step."""

    def stop_requested(self) -> bool:
        if super().stop_requested():
            raise Killed
        return False
