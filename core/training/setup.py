"""Set up a run: data, splits, cache, classifier, optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn

from core.classifier.build import build_classifier
from core.config.run import ResolvedSpec
from core.data import splits, subsets
from core.data.base import ChestDataset
from core.data.cache.image_cache import ImageCache, cache_side
from core.data.datasets.registry import open_data
from core.errors import ConfigurationError
from core.formatting import share
from core.hardware import precision
from core.hardware.distributed import Processes, join
from core.models.backbones import bf16_attention
from core.models.backbones.build import checkpoint_activations
from core.models.tuning.apply import parameter_groups, training_hook
from core.models.tuning.registry import tuning_method
from core.reporter import Reporter
from core.resources import memory
from core.training import cached_features
from core.training.batches import batches
from core.training.compile import Compiled
from core.training.session import Position, Session, Weights, check_usable, report_skipped


def setup(spec: ResolvedSpec, folder: Path, cache: Path, report: Reporter) -> Session:
    """Open the data set, build the model and its optimizer.

    Raises:
        DataError: The data set is missing, or its labels cannot be used.
        ModelError: The backbone cannot be loaded.
        ConfigurationError: The settings do not fit together or do not fit this machine.
    """
    if spec.adapter.combined is not None and spec.adapter.imported is None:
        raise ConfigurationError(
            "An ensemble is made of finished runs and is not trained.",
            "Make it again: python -m core ensemble RUN RUN.",
            field="adapter.combined",
        )
    accelerator, processes = _accelerator(spec)
    report.progress(0.0, None, "opening the data set")
    dataset = open_data(spec.data)
    ids = _studies(spec, dataset, report)

    report.progress(0.0, None, "building the model")
    findings = len(dataset.findings)
    classifier = build_classifier(spec, findings, folder, drop_path=spec.train.drop_path)
    model, card = classifier.model, classifier.card
    report.log(f"{card.title}: {classifier.loaded}")
    if accelerator.mixed_precision == "bf16" and accelerator.device.type == "cpu":
        bf16_attention.install(model, bf16_attention.patches(model))
    epoch = batches(ids["train"], spec.train.batch_size, spec.train.seed, 0)
    closed_form = tuning_method(spec.adapter.method).closed_form
    if closed_form and processes.count > 1:
        raise ConfigurationError(
            f"The method {spec.adapter.method} is fitted in one process.",
            "Start the run without accelerate launch or torchrun.",
            field="adapter.method",
        )
    processes.check_supported(model, min(map(len, epoch)))
    if spec.train.activation_checkpointing:
        checkpoint_activations(model, card)
    parallel, optimizer = accelerator.prepare(model, _optimizer(spec, model))
    if spec.train.compile:
        parallel = Compiled(parallel, report.log)
    images = ImageCache(cache, dataset, cache_side(spec.model.input_size or card.input_size))
    inputs = cached_features.input_source(spec, card, images, model, accelerator, cache, report.log)
    weights = Weights(
        backbone=card.name,
        sha256=classifier.loaded.sha256,
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        total=sum(p.numel() for p in model.parameters()),
    )
    session = Session(
        spec, folder, report, dataset, images, ids, model, parallel, optimizer, accelerator,
        inputs, weights,
        hook=training_hook(model, spec.adapter, len(epoch) * spec.train.epochs),
        skipped=dict(dataset.skipped), processes=processes,
        micro_batches=memory.micro_batches(spec, findings),
    )  # fmt: skip
    if spec.adapter.imported is not None:
        # An imported adapter is already trained: only its validation is left.
        session.position = Position(epoch=spec.train.epochs, unvalidated=True)
    _log_model(session)
    return session


def _studies(spec: ResolvedSpec, dataset: ChestDataset, report: Reporter) -> dict[str, list[str]]:
    """The study ids of each split; those of ``train`` are the labelled subset."""
    imported = spec.adapter.imported is not None
    ids = {
        "train": [] if imported else subsets.labelled(dataset, spec.data),
        "val": dataset.ids("val"),
        "test": dataset.ids("test"),
    }
    if not imported:
        _log_subset(spec, dataset, ids["train"], report)
    report_skipped(dataset.skipped, report)
    check_usable(dataset, ids, learns=not imported)
    return ids


def _optimizer(spec: ResolvedSpec, model: nn.Module) -> torch.optim.Optimizer:
    train = spec.train
    if tuning_method(spec.adapter.method).closed_form:
        # A session and its checkpoint always have an optimizer; this one has nothing to do.
        return torch.optim.SGD([nn.Parameter(torch.zeros(0))], lr=train.lr)
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


def _accelerator(spec: ResolvedSpec) -> tuple[Accelerator, Processes]:
    gpu = torch.cuda.is_available() and spec.train.device != "cpu"
    _check_device(spec, gpu)
    processes = join(spec.train.device, gpu)
    if gpu and ":" in spec.train.device:
        torch.cuda.set_device(int(spec.train.device.split(":")[1]))
    chosen = precision.resolve_precision(spec.train.precision, gpu=gpu)
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    # accelerate keeps its state for the whole process, but the runs of a notebook may differ.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    accelerator = Accelerator(
        cpu=not gpu,
        mixed_precision="no" if chosen == "fp32" else chosen,
        # Weights without a gradient, such as a mask token, are the same ones at every step.
        kwargs_handlers=[DistributedDataParallelKwargs(static_graph=True, broadcast_buffers=False)],
    )
    return accelerator, processes


def _check_device(spec: ResolvedSpec, gpu: bool) -> None:
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


def _log_subset(
    spec: ResolvedSpec, dataset: ChestDataset, ids: Sequence[str], report: Reporter
) -> None:
    listed = spec.data.split_file
    if listed is not None:
        count = subsets.differing(dataset, listed)
        note = f"; {count:,} have other labels there, the labels of the data set are used"
        report.log(f"The training images are those listed in {listed}{note if count else ''}.")
    counts = splits.positives(dataset, ids)
    report.log(f"{dataset.title}, split {dataset.split_name}: {len(ids):,} training images.")
    report.log("Positives: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    empty = [name for name, count in counts.items() if count == 0]
    if empty:
        report.log(
            f"No positive image in this subset for {', '.join(empty)}: nothing can be learned "
            "about it."
        )


def _log_model(session: Session) -> None:
    report, weights, accelerator = session.report, session.weights, session.accelerator
    if session.micro_batches > 1:
        report.log(f"Each batch is divided into {session.micro_batches} micro-batches.")
    report.model(weights.trainable, weights.total, str(accelerator.device))
    mixed = accelerator.mixed_precision
    count = session.processes.count
    action = "Fits" if tuning_method(session.spec.adapter.method).closed_form else "Trains"
    report.log(
        f"{action} {weights.trainable:,} of {weights.total:,} parameters "
        f"({share(weights.trainable / weights.total)}) on {accelerator.device}"
        f"{'' if mixed == 'no' else f' in {mixed}'}"
        f"{f', in {count} processes' if count > 1 else ''}."
    )
