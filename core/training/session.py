"""What a run works with: data, model, optimizer and position, made by ``setup``."""

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

from core.config.run import RunSpec
from core.data import splits
from core.data.base import ChestDataset
from core.data.cache.image_cache import ImageCache
from core.errors import DataError
from core.hardware.distributed import Processes
from core.metrics.auroc import per_finding
from core.models.tuning.registry import TrainingHook
from core.reporter import Reporter
from core.training.inputs import InputSource

TRAINED = 0.95
"""Progress at which training is over and the best epoch is tested."""


@dataclass
class Position:
    """How far a run is; saved in each checkpoint.

    Attributes:
        epoch: Epochs that are complete.
        batch: Batches of the current epoch that are complete.
        step: Optimizer steps since the start.
        best_auroc: Best validation AUROC so far; None before the first.
        best_epoch: The epoch (from 1) it was reached in.
        last_auroc: Validation AUROC of the last epoch.
        seconds: Time spent in epochs so far, over all attempts.
        unvalidated: Whether the last complete epoch still has to be validated.
        candidates: Under a budget, the epochs that lead so far, with their AUROC on the part of the
            validation split.
        part: Hash of the studies of that part; empty before the first.
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
    """Which weights a run started from, and how many of them train.

    Attributes:
        backbone: Name of the backbone.
        sha256: Hash of the file they came from; None if they are random.
        trainable: Parameters that train.
        total: Parameters of the whole model.
    """

    backbone: str
    sha256: str | None
    trainable: int
    total: int


@dataclass
class Session:
    """What ``setup`` made and the other steps use.

    Attributes:
        spec: The run, resolved.
        folder: Its folder.
        report: Told of its progress.
        dataset: The radiographs.
        cache: Their decoded copies.
        ids: Studies of each split; those of ``train`` are the labelled subset.
        model: The adapted model.
        parallel: The same, as accelerate runs it.
        optimizer: Of what trains.
        accelerator: Device and precision.
        inputs: Makes the model's input.
        weights: Where the model came from.
        hook: What the method does after each step; None for most methods.
        skipped: Why studies were left out, by id; empty unless the run goes on without bad ones.
        position: How far the run is.
        losses: Of the steps since the loss was last recorded, on the device.
        best_logits: Of the validation split at the best epoch, if this attempt saw it.
        started: When this attempt's epochs began, on the monotonic clock.
        processes: This process among those that carry out the run; mostly it is alone.
        pieces: Parts in which a batch goes through the network.
    """

    spec: RunSpec
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
    pieces: int = 1

    def stop_requested(self) -> bool:
        """Whether the user asked to stop; the same answer in all processes, if all ask."""
        return self.processes.share(self.report.stop_requested())

    def elapsed(self) -> float:
        """Seconds of epochs, in this attempt and those before it."""
        return self.position.seconds + time.monotonic() - self.started

    def progress(self, batches: int = 1) -> tuple[float, float | None]:
        """How far the run is, 0 to ``TRAINED``, and the seconds that training has still to go.

        Args:
            batches: Batches an epoch.
        """
        position, epochs = self.position, self.spec.train.epochs
        done = (position.epoch + position.batch / batches) / epochs
        spent = self.elapsed()
        left = spent * (1 - done) / done if done > 0 else None
        return TRAINED * done, left

    def leave_out(self, faults: Mapping[str, str]) -> None:
        """Go on without some studies.

        Args:
            faults: Why each is left out, by id.

        Raises:
            DataError: What is left is of no use.
        """
        new = {one: why for one, why in faults.items() if one not in self.skipped}
        if not new:
            return
        self.skipped |= new
        self.ids = {
            split: [one for one in ids if one not in self.skipped]
            for split, ids in self.ids.items()
        }
        report_skipped(new, self.report)
        check_usable(self.dataset, self.ids, learns=self.spec.adapter.imported is None)

    def record(self, name: str, value: float, epoch: float | None = None) -> None:
        """Report one value of a curve and count it.

        Args:
            name: The curve.
            value: Its value.
            epoch: Where it belongs; by default after the last complete epoch.
        """
        position = self.position
        at, step = float(position.epoch) if epoch is None else epoch, position.step
        if at < position.epoch:  # all epochs have as many steps
            step = round(step * at / position.epoch)
        self.report.metric(name, value, epoch=at, step=step)
        position.metrics += 1


def report_skipped(skipped: Mapping[str, str], report: Reporter) -> None:
    """Log which studies are left out, and why."""
    if skipped:
        report.log(f"Goes on without {len(skipped):,} pictures:")
    for study, why in skipped.items():
        report.log(f"  {study}: {why}")


def check_usable(
    dataset: ChestDataset, chosen: Mapping[str, Sequence[str]], learns: bool = True
) -> None:
    """Refuse studies that nothing can be learnt from, or no epoch be chosen by.

    Args:
        dataset: The data set.
        chosen: Ids by split.
        learns: Whether there is something to learn; otherwise no training image is needed.

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
            f"validation split ({len(ids):,} studies), so that no epoch can be chosen.",
            "Add studies to the validation split, or choose another split.",
            field="data.root",
        )
