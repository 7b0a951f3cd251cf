"""What a run works with: data, model, optimizer and position, made by ``setup``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedDataParallelKwargs
from numpy.typing import NDArray
from torch import Tensor, nn

from core.classifier.trained import tuned
from core.config.run import RunSpec
from core.data import splits, subsets
from core.data.base import ChestDataset
from core.data.cache.image_cache import ImageCache, cache_side
from core.data.datasets.registry import open_data
from core.errors import ConfigurationError, DataError
from core.hardware import distributed as ranks
from core.hardware import precision
from core.hardware.distributed import Ranks
from core.metrics import auroc as stats
from core.models.backbones import bf16_attention
from core.models.backbones import build as backbones
from core.models.backbones import registry as catalogue
from core.models.backbones.registry import BackboneCard
from core.models.tuning import apply as adapters
from core.models.tuning.registry import Companion
from core.reporter import Reporter
from core.resources import memory
from core.training import cached_features as frozen
from core.training.compile import Compiled
from core.training.inputs import Feed, batches

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
        feed: Makes the model's input.
        weights: Where the model came from.
        companion: What the method does beside the steps; None for most methods.
        skipped: Why studies were left out, by id; empty unless the run goes on without bad ones.
        position: How far the run is.
        losses: Of the steps since the loss was last recorded, on the device.
        best_logits: Of the validation split at the best epoch, if this attempt saw it.
        started: When this attempt's epochs began, on the monotonic clock.
        ranks: This process among those that carry out the run; mostly it is alone.
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
    feed: Feed
    weights: Weights
    companion: Companion | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    position: Position = field(default_factory=Position)
    losses: list[Tensor] = field(default_factory=list)
    best_logits: NDArray[np.float32] | None = None
    started: float = field(default_factory=time.monotonic)
    ranks: Ranks = field(default_factory=Ranks)
    pieces: int = 1

    def stop_requested(self) -> bool:
        """Whether the user asked to stop; the same answer in all processes, if all ask."""
        return self.ranks.share(self.report.stop_requested())

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
        _tell_skipped(new, self.report)
        refuse_useless(self.dataset, self.ids, learns=self.spec.adapter.imported is None)

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


def setup(spec: RunSpec, folder: Path, cache: Path, report: Reporter) -> Session:
    """Open the data set, build the model and its optimizer.

    Args:
        spec: The run, resolved.
        folder: Its folder.
        cache: Folder of decoded images.
        report: Told of the progress.

    Raises:
        DataError: The data set is missing, or its labels are of no use.
        ModelError: The backbone cannot be loaded.
        ConfigurationError: The settings do not fit together, or not to this machine.
    """
    accelerator, place = _accelerator(spec)
    report.progress(0.0, None, "opening the data set")
    dataset = open_data(spec.data)
    imported = spec.adapter.imported is not None
    train_ids = [] if imported else subsets.labelled(dataset, spec.data)
    ids = {"train": train_ids, "val": dataset.ids("val"), "test": dataset.ids("test")}
    if not imported:
        _tell_subset(spec, dataset, train_ids, report)
    _tell_skipped(dataset.skipped, report)
    refuse_useless(dataset, ids, learns=not imported)

    report.progress(0.0, None, "building the model")
    card = catalogue.card(spec.model.backbone)
    model, weights = _model(spec, folder, card, len(dataset.findings), report)
    if accelerator.mixed_precision == "bf16" and accelerator.device.type == "cpu":
        bf16_attention.install(model, bf16_attention.patches(model))
    parts = batches(train_ids, spec.train.batch_size, spec.train.seed, 0)
    place.refuse(model, min(map(len, parts)))
    if spec.train.activation_checkpointing:
        backbones.checkpoint_activations(model, card)
    parallel, optimizer = accelerator.prepare(model, _optimizer(spec, model))
    if spec.train.compile:
        parallel = Compiled(parallel, report.log)
    pictures = ImageCache(cache, dataset, cache_side(spec.model.input_size or card.input_size))
    feed = frozen.feed(spec, card, pictures, model, accelerator, cache, report.log)
    companion = adapters.companion(model, spec.adapter, len(parts) * spec.train.epochs)
    pieces = memory.parts(spec, len(dataset.findings))
    if pieces > 1:
        report.log(f"A batch goes through the network in {pieces} parts.")
    report.model(weights.trainable, weights.total, str(accelerator.device))
    report.log(
        f"Trains {weights.trainable:,} of {weights.total:,} parameters "
        f"({weights.trainable / weights.total:.3%}) on {accelerator.device}"
        f"{_in_words(accelerator.mixed_precision)}"
        f"{f', in {place.count} processes' if place.count > 1 else ''}."
    )
    return Session(
        spec, folder, report, dataset, pictures, ids, model, parallel, optimizer, accelerator, feed,
        weights, companion, dict(dataset.skipped),
        # An adapter that was made elsewhere has its training behind it.
        Position(epoch=spec.train.epochs, unvalidated=True) if imported else Position(),
        ranks=place, pieces=pieces,
    )  # fmt: skip


def _model(
    spec: RunSpec, folder: Path, card: BackboneCard, findings: int, report: Reporter
) -> tuple[nn.Module, Weights]:
    torch.manual_seed(spec.train.seed)
    model, loaded = backbones.build(
        card,
        findings,
        pretrained=spec.model.pretrained,
        weights=spec.model.weights,
        input_size=spec.model.input_size,
        drop_path=spec.train.drop_path,
    )
    model = tuned(model, spec, folder)
    report.log(f"{card.title}: {loaded}")
    return model, Weights(
        backbone=card.name,
        sha256=loaded.sha256,
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        total=sum(p.numel() for p in model.parameters()),
    )


def _optimizer(spec: RunSpec, model: nn.Module) -> torch.optim.Optimizer:
    train = spec.train
    assert train.lr is not None
    groups = adapters.parameter_groups(
        model,
        lr=train.lr,
        weight_decay=train.weight_decay,
        layer_decay=train.layer_decay,
        spec=spec.adapter,
    )
    if train.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=train.lr, fused=True)
    return torch.optim.SGD(groups, lr=train.lr, momentum=train.momentum, fused=True)


def _accelerator(spec: RunSpec) -> tuple[Accelerator, Ranks]:
    gpu = torch.cuda.is_available() and spec.train.device != "cpu"
    _refuse_device(spec, gpu)
    place = ranks.join(spec.train.device, gpu)
    if gpu and ":" in spec.train.device:
        torch.cuda.set_device(int(spec.train.device.split(":")[1]))
    chosen = precision.chosen(spec.train.precision, gpu=gpu)
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    # accelerate keeps its state for the whole process; several runs of one notebook may differ.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    found = Accelerator(
        cpu=not gpu,
        mixed_precision="no" if chosen == "fp32" else chosen,
        # Which weights get no gradient, such as a mask token, is the same at every step.
        kwargs_handlers=[DistributedDataParallelKwargs(static_graph=True, broadcast_buffers=False)],
    )
    return found, place


def _in_words(mixed_precision: str) -> str:
    return "" if mixed_precision == "no" else f" in {mixed_precision}"


def _refuse_device(spec: RunSpec, gpu: bool) -> None:
    wanted, count = spec.train.device, torch.cuda.device_count()
    if wanted.startswith("cuda") and not gpu:
        raise ConfigurationError(
            f"There is no CUDA device on this machine, but the run asks for {wanted}.",
            "Choose the device auto or cpu.",
            field="train.device",
        )
    if wanted.startswith("cuda:") and int(wanted.split(":")[1]) >= count:
        raise ConfigurationError(
            f"There is no device {wanted} on this machine.",
            f"Choose auto, or one of cuda:0 to cuda:{count - 1}.",
            field="train.device",
        )
    if spec.train.precision == "fp16" and not gpu:
        raise ConfigurationError(
            "The precision fp16 needs a GPU.",
            "Choose the precision auto, bf16 or fp32.",
            field="train.precision",
        )


def _tell_subset(
    spec: RunSpec, dataset: ChestDataset, ids: Sequence[str], report: Reporter
) -> None:
    listed = spec.data.split_file
    if listed is not None:
        odd = subsets.differing(dataset, listed)
        words = f"; {odd:,} have other labels there, and the data set's count" if odd else ""
        report.log(f"The training images are those that {listed} names{words}.")
    counts = splits.positives(dataset, ids)
    report.log(f"{dataset.title}, split {dataset.split_name}: {len(ids):,} training images.")
    report.log("Positives: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    empty = [name for name, count in counts.items() if count == 0]
    if empty:
        report.log(f"No positive image in this subset: {', '.join(empty)}; nothing is learnt.")


def _tell_skipped(skipped: Mapping[str, str], report: Reporter) -> None:
    if skipped:
        report.log(f"Goes on without {len(skipped):,} pictures:")
    for study, why in skipped.items():
        report.log(f"  {study}: {why}")


def refuse_useless(
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
    if not len(ids) or np.isnan(stats.per_finding(labels, labels)).all():
        raise DataError(
            f"{dataset.title}: no finding has both positive and negative studies in the "
            f"validation split ({len(ids):,} studies), so that no epoch can be chosen.",
            "Add studies to the validation split, or choose another split.",
            field="data.root",
        )
