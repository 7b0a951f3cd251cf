"""Session of a run: data, model, optimizer and position, created by ``setup``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from core.config.run import ResolvedSpec
from core.data import splits
from core.data.base import ChestDataset
from core.data.cache.image_cache import ImageCache
from core.errors import DataError
from core.hardware.distributed import Processes
from core.metrics.auroc import per_finding
from core.models.tuning.method import TrainingHook
from core.reporter import Reporter
from core.training.inputs import InputSource

TRAINED = 0.95
"""Progress of a run when training ends and the prediction of the best epoch begins."""


@dataclass
class Position:
    """Position of a run; saved in each checkpoint.

    Attributes:
        epoch: Completed epochs.
        batch: Completed batches of the current epoch.
        step: Optimizer steps since the start.
        best_auroc: Best validation AUROC so far; None before the first.
        best_epoch: The epoch (from 1) with the best validation AUROC.
        last_auroc: Latest validation AUROC.
        seconds: Time spent in epochs so far, over all attempts.
        unvalidated: Whether the last complete epoch still has to be validated.
        candidates: With validation by budget, the best epochs so far with their AUROC on the part
            of the validation split that is scored during training.
        part: Hash of the studies of that part; empty before the first score.
        metrics: Metric values recorded so far.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_auroc: float | None = None
    best_epoch: int = 0
    last_auroc: float | None = None
    seconds: float = 0.0
    unvalidated: bool = False
    candidates: dict[int, float] = field(default_factory=dict)
    part: str = ""
    metrics: int = 0


@dataclass(frozen=True)
class Weights:
    """Origin of a run's weights, and how many of them train.

    Attributes:
        backbone: Name of the backbone.
        sha256: Hash of the file of pre-trained weights; None if the weights are random.
        trainable: Parameters that train.
        total: Parameters of the whole model.
    """

    backbone: str
    sha256: str | None
    trainable: int
    total: int


@dataclass
class Session:
    """Everything a run works with.

    Attributes:
        spec: The run's specification.
        folder: Its folder.
        report: Receives metrics and progress.
        dataset: The data set.
        cache: Its decoded images.
        ids: Studies of each split; those of ``train`` are the labelled subset.
        model: The adapted model.
        parallel: The same model, prepared by accelerate.
        optimizer: Optimizer of the trainable parameters.
        accelerator: Device and precision.
        inputs: Provides the model's input.
        weights: Origin of the model's weights.
        hook: The tuning method's training hook; None for most methods.
        skipped: Reasons why studies are skipped, by id; empty unless bad images are skipped.
        position: Progress of the run.
        losses: Losses of the steps since the loss was last recorded, on the device.
        best_logits: Logits of the validation split at the best epoch, if it was validated in this
            attempt.
        started: Start of this attempt's epochs, on the monotonic clock.
        processes: This process among those of the run; usually the only one.
        micro_batches: Micro-batches per batch (gradient accumulation).
    """

    spec: ResolvedSpec
    folder: Path
    report: Reporter
    dataset: ChestDataset
    cache: ImageCache
    ids: dict[str, list[str]]
    model: nn.Module
    parallel: nn.Module
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    inputs: InputSource
    weights: Weights
    hook: TrainingHook | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    position: Position = field(default_factory=Position)
    losses: list[Tensor] = field(default_factory=list)
    best_logits: NDArray[np.float32] | None = None
    started: float = field(default_factory=time.monotonic)
    processes: Processes = field(default_factory=Processes)
    micro_batches: int = 1

    def stop_requested(self) -> bool:
        """Whether the user asked to stop; all processes must call this and get the same answer."""
        return self.processes.share(self.report.stop_requested())

    def elapsed(self) -> float:
        """Seconds spent in epochs, over all attempts."""
        return self.position.seconds + time.monotonic() - self.started

    def progress(self, batches: int = 1) -> tuple[float, float | None]:
        """Progress of the run, 0 to ``TRAINED``, and the remaining seconds of training."""
        position, epochs = self.position, self.spec.train.epochs
        done = (position.epoch + position.batch / batches) / epochs
        spent = self.elapsed()
        left = spent * (1 - done) / done if done > 0 else None
        return TRAINED * done, left

    def leave_out(self, faults: Mapping[str, str]) -> None:
        """Skip studies from now on; ``faults`` has the reasons by study id.

        Raises:
            DataError: The remaining studies cannot be used for training or validation.
        """
        new = {study: why for study, why in faults.items() if study not in self.skipped}
        if not new:
            return
        self.skipped |= new
        self.ids = {
            split: [study for study in ids if study not in self.skipped]
            for split, ids in self.ids.items()
        }
        report_skipped(new, self.report)
        check_usable(self.dataset, self.ids, learns=self.spec.adapter.imported is None)

    def record(self, name: str, value: float, epoch: float | None = None) -> None:
        """Report one value of a curve and count it.

        Args:
            name: Name of the curve.
            value: The value.
            epoch: Its epoch; by default the number of completed epochs.
        """
        position = self.position
        at, step = float(position.epoch) if epoch is None else epoch, position.step
        if at < position.epoch:  # every epoch has the same number of steps
            step = round(step * at / position.epoch)
        self.report.metric(name, value, epoch=at, step=step)
        position.metrics += 1


def report_skipped(skipped: Mapping[str, str], report: Reporter) -> None:
    """Log which studies are skipped, and why."""
    if skipped:
        report.log(f"Skips {len(skipped):,} images:")
    for study, why in skipped.items():
        report.log(f"  {study}: {why}")


def check_usable(
    dataset: ChestDataset, chosen: Mapping[str, Sequence[str]], learns: bool = True
) -> None:
    """Refuse studies that cannot train a model or cannot select an epoch.

    Args:
        dataset: The data set.
        chosen: Study ids by split.
        learns: Whether the run trains; otherwise no training image is needed.

    Raises:
        DataError: No training image is positive, or no finding has both labels in validation.
    """
    if learns and not any(splits.positives(dataset, chosen["train"]).values()):
        raise DataError(
            f"None of the {len(chosen['train'])} labelled images is positive for any finding.",
            "Raise the label fraction, or list other studies.",
            field="data.label_fraction",
        )
    ids = chosen["val"]
    labels: NDArray[np.float32] = dataset.labels(ids)
    if not len(ids) or np.isnan(per_finding(labels, labels)).all():
        raise DataError(
            f"{dataset.title}: no finding has both positive and negative studies in the "
            f"validation split ({len(ids):,} studies), so that no epoch can be selected.",
            "Add studies to the validation split, or choose another split.",
            field="data.root",
        )
