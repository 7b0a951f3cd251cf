"""Set up a run: data, splits, cache, classifier, optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn

from core.classifier.build import tuned
from core.config.run import RunSpec
from core.data import splits, subsets
from core.data.base import ChestDataset
from core.data.cache.image_cache import ImageCache, cache_side
from core.data.datasets.registry import open_data
from core.errors import ConfigurationError
from core.hardware import precision
from core.hardware.distributed import Processes, join
from core.models.backbones import bf16_attention
from core.models.backbones.build import build_backbone, checkpoint_activations
from core.models.backbones.card import BackboneCard
from core.models.backbones.registry import backbone_card
from core.models.tuning.apply import parameter_groups, training_hook
from core.reporter import Reporter
from core.resources import memory
from core.training import cached_features
from core.training.batches import batches
from core.training.compile import Compiled
from core.training.session import Position, Session, Weights, check_usable, report_skipped


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
    report_skipped(dataset.skipped, report)
    check_usable(dataset, ids, learns=not imported)

    report.progress(0.0, None, "building the model")
    card = backbone_card(spec.model.backbone)
    model, weights = _model(spec, folder, card, len(dataset.findings), report)
    if accelerator.mixed_precision == "bf16" and accelerator.device.type == "cpu":
        bf16_attention.install(model, bf16_attention.patches(model))
    parts = batches(train_ids, spec.train.batch_size, spec.train.seed, 0)
    place.refuse(model, min(map(len, parts)))
    if spec.train.activation_checkpointing:
        checkpoint_activations(model, card)
    parallel, optimizer = accelerator.prepare(model, _optimizer(spec, model))
    if spec.train.compile:
        parallel = Compiled(parallel, report.log)
    pictures = ImageCache(cache, dataset, cache_side(spec.model.input_size or card.input_size))
    feed = cached_features.input_source(spec, card, pictures, model, accelerator, cache, report.log)
    companion = training_hook(model, spec.adapter, len(parts) * spec.train.epochs)
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
        processes=place, pieces=pieces,
    )  # fmt: skip


def _model(
    spec: RunSpec, folder: Path, card: BackboneCard, findings: int, report: Reporter
) -> tuple[nn.Module, Weights]:
    torch.manual_seed(spec.train.seed)
    model, loaded = build_backbone(
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
    groups = parameter_groups(
        model,
        lr=train.lr,
        weight_decay=train.weight_decay,
        layer_decay=train.layer_decay,
        spec=spec.adapter,
    )
    if train.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=train.lr, fused=True)
    return torch.optim.SGD(groups, lr=train.lr, momentum=train.momentum, fused=True)


def _accelerator(spec: RunSpec) -> tuple[Accelerator, Processes]:
    gpu = torch.cuda.is_available() and spec.train.device != "cpu"
    _check_device(spec, gpu)
    place = join(spec.train.device, gpu)
    if gpu and ":" in spec.train.device:
        torch.cuda.set_device(int(spec.train.device.split(":")[1]))
    chosen = precision.resolve_precision(spec.train.precision, gpu=gpu)
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


def _check_device(spec: RunSpec, gpu: bool) -> None:
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
