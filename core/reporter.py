"""The reporter protocol: how a run reports its metrics and progress."""

from __future__ import annotations

from typing import Protocol

MEAN_AUROC = "val/auroc"
"""Name of the curve of the mean AUROC on the whole validation split."""
PART_AUROC = "val-part/auroc"
"""Name of the curve of the mean AUROC on the part that validation by budget scores every epoch."""


class Reporter(Protocol):
    """What training calls; implemented by the store, progress bars, trackers and notebooks."""

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        """Record one value of a curve, such as ``train/loss`` or ``val/auroc/Effusion``."""

    def progress(self, fraction: float, seconds_left: float | None, phase: str) -> None:
        """Report the progress (0 to 1), the remaining time in seconds and the current phase."""

    def stop_requested(self) -> bool:
        """Whether the user asked the run to stop; cheap enough to call at every step."""

    def log(self, text: str) -> None:
        """Add a line to the run's log."""

    def model(self, trainable: int, total: int, device: str) -> None:
        """Report the numbers of trainable and of all parameters, and the device."""

    def secure(self) -> None:
        """Store everything recorded so far; a checkpoint that counts it is written next."""

    def rewind(self, kept: int) -> None:
        """Keep the first ``kept`` metrics of the run and drop the later ones.

        A run that resumes from a checkpoint records again what it recorded after it.
        """


class NullReporter:
    """A reporter that ignores everything; base of reporters that use only some calls."""

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        """Ignore the value."""

    def progress(self, fraction: float, seconds_left: float | None, phase: str) -> None:
        """Ignore the progress."""

    def stop_requested(self) -> bool:
        """Never ask the run to stop."""
        return False

    def log(self, text: str) -> None:
        """Ignore the line."""

    def model(self, trainable: int, total: int, device: str) -> None:
        """Ignore the numbers."""

    def secure(self) -> None:
        """Do nothing: nothing is stored."""

    def rewind(self, kept: int) -> None:
        """Do nothing: nothing is stored."""


class ForwardingReporter:
    """A reporter that forwards every call to another one; base of those that add to some calls.

    Args:
        report: The reporter that receives the calls.
    """

    def __init__(self, report: Reporter) -> None:
        self._report = report

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        """Forward the value."""
        self._report.metric(name, value, epoch=epoch, step=step)

    def progress(self, fraction: float, seconds_left: float | None, phase: str) -> None:
        """Forward the progress."""
        self._report.progress(fraction, seconds_left, phase)

    def stop_requested(self) -> bool:
        """Forward the question."""
        return self._report.stop_requested()

    def log(self, text: str) -> None:
        """Forward the line."""
        self._report.log(text)

    def model(self, trainable: int, total: int, device: str) -> None:
        """Forward the numbers."""
        self._report.model(trainable, total, device)

    def secure(self) -> None:
        """Forward the call."""
        self._report.secure()

    def rewind(self, kept: int) -> None:
        """Forward the call."""
        self._report.rewind(kept)
