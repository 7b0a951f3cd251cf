"""How a run tells of its progress without knowing who listens."""

from __future__ import annotations

from typing import Protocol

MEAN_AUROC = "val/auroc"
"""Name of the curve of the mean AUROC on the whole validation split."""
PART_AUROC = "val-part/auroc"
"""The same on the part of it that is scored after each epoch, where validation has a budget."""


class Reporter(Protocol):
    """What training calls; the store's writer, a progress bar or a notebook answers."""

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        """Record one value of a curve, such as ``train/loss`` or ``val/auroc/Effusion``."""

    def progress(self, fraction: float, seconds_left: float | None, phase: str) -> None:
        """Say how far the run is (0 to 1), what is left (seconds) and what it is doing."""

    def stop_requested(self) -> bool:
        """Whether the user asked the run to stop; cheap enough to ask at every step."""

    def log(self, text: str) -> None:
        """Add a line to the run's log."""

    def model(self, trainable: int, total: int, device: str) -> None:
        """Say how many parameters train, of how many, and where."""

    def secure(self) -> None:
        """Make sure that nothing recorded so far is lost: a checkpoint that counts it follows."""

    def rewind(self, kept: int) -> None:
        """Keep the first ``kept`` metrics of the run and forget the later ones.

        A run resumed from a checkpoint records again what it recorded after it.
        """


class NullReporter:
    """A reporter that listens to nothing."""

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        """Drop the value."""

    def progress(self, fraction: float, seconds_left: float | None, phase: str) -> None:
        """Drop the progress."""

    def stop_requested(self) -> bool:
        """Never asked to stop."""
        return False

    def log(self, text: str) -> None:
        """Drop the line."""

    def model(self, trainable: int, total: int, device: str) -> None:
        """Drop the numbers."""

    def secure(self) -> None:
        """Nothing was kept."""

    def rewind(self, kept: int) -> None:
        """Nothing was kept."""
