"""What a run will cost and learn from, before it starts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.config.run import RunSpec
from core.data import splits, subsets
from core.data.base import ChestDataset
from core.data.datasets.opened import open_cached
from core.errors import CoreError
from core.hardware import available_memory as capacity
from core.hardware import precision
from core.models.backbones.registry import backbone_card
from core.resources import memory, throughput, validation_schedule

PASSES = {"full": 3.0, "linear": 1.0}
"""Cost of a training step in forward passes: forward, gradients of activations, of weights. A
linear probe needs the forward pass once a study, not once an epoch."""
ADAPTER_PASSES = 2.3
SLOWER_IN_BF16 = 1.25
"""What these become in bf16 on a processor, where the way back wins less than the way there: see
``core.hardware.precision.multiplies_bf16``."""
START_SECONDS = 8.0
MILLISECONDS_A_PICTURE = 0.4
MILLISECONDS_TO_DECODE = 25.0
"""On one core: a phantom to draw, or a PNG of 1024 px to decode."""
SAMPLE = 200
"""Pictures that are looked up in the cache to tell how many have to be decoded."""


@dataclass(frozen=True)
class Cost:
    """The consequence of a specification.

    Attributes:
        images: Labelled training images.
        patients: Patients they come from.
        positives: Positive images by finding.
        val_images: Images of the validation split.
        test_images: Images of the test split.
        trainable: Parameters that train.
        total: Parameters of the whole model.
        seconds: Expected wall time.
        basis: What the time was derived from.
        starting: Seconds of these for loading the program, which a process does once.
        preparing: Seconds of these for pictures that are not prepared yet.
        unprepared: About how many pictures those are.
        memory: Bytes that it will take at most, of the GPU or without one of the host; None if that
            is not known.
        available: Bytes of them that are free at the moment.
        capacity: Bytes that this device has.
        notes: What the user should know before starting.
    """

    images: int
    patients: int
    positives: dict[str, int]
    val_images: int
    test_images: int
    trainable: int
    total: int
    seconds: float
    basis: str
    starting: float
    preparing: float
    unprepared: int
    memory: int | None
    available: int
    capacity: int
    notes: tuple[str, ...]

    @property
    def share(self) -> float:
        """Trainable share of the parameters, 0 to 1."""
        return self.trainable / self.total


def estimate(spec: RunSpec, cache: Path, earlier: Iterable[tuple[RunSpec, float]] = ()) -> Cost:
    """Say what a run will learn from, train and take.

    Args:
        spec: The run.
        cache: The workspace's cache, where this machine's measured speed is kept.
        earlier: Finished runs of this machine with their wall time in seconds; the latest of the
            same kind replaces the calculation by a measurement.

    Raises:
        CoreError: Whatever would stop the run itself: an unknown name, a missing folder, a rank
            above the layer's width.
    """
    from core.models.tuning.apply import count_parameters

    spec = spec.resolved()
    dataset = open_cached(spec.data)
    ids = subsets.labelled(dataset, spec.data)
    card = backbone_card(spec.model.backbone)
    count = count_parameters(card, spec.adapter, len(dataset.findings), spec.model.input_size)
    sizes = {name: len(dataset.ids(name)) for name in ("val", "test")}
    positives = splits.positives(dataset, ids)
    seconds, basis = _like_before(spec, earlier)
    starting, preparing, unprepared = 0.0, 0.0, 0
    if seconds is None:
        everything = [*ids, *dataset.ids("val"), *dataset.ids("test")]
        unprepared = _unprepared(spec, dataset, everything, cache)
        preparing = unprepared * MILLISECONDS_TO_DECODE / 1000 / (os.cpu_count() or 1)
        starting = START_SECONDS
        computing, basis = _calculated(spec, len(ids), sizes, cache)
        seconds = starting + preparing + computing
        if preparing > 1:
            basis += f", {preparing:.0f} s of it for pictures not prepared yet"
    needed = memory.predict_memory(spec, len(dataset.findings))
    device = capacity.of(spec.train.device)
    notes = [*_notes(spec, positives, card.leaks if card.source != "embedded" else "")]
    notes += _of_memory(spec, len(dataset.findings), device.free, needed)
    return Cost(
        images=len(ids),
        patients=int(dataset.table.loc[ids, "patient"].nunique()),
        positives=positives,
        val_images=sizes["val"],
        test_images=sizes["test"],
        trainable=count.trainable,
        total=count.total,
        seconds=seconds,
        basis=basis,
        starting=starting,
        preparing=preparing,
        unprepared=unprepared,
        memory=needed,
        available=device.free,
        capacity=device.total,
        notes=tuple(notes),
    )


def _notes(spec: RunSpec, positives: dict[str, int], leaks: str) -> Iterable[str]:
    empty = [name for name, count in positives.items() if count == 0]
    if empty:
        yield f"No positive image for {', '.join(empty)}: nothing can be learnt about it."
    few = [name for name, count in positives.items() if 0 < count < 5]
    if few:
        yield f"Fewer than five positive images for {', '.join(few)}."
    if leaks:
        yield leaks
    if not spec.model.pretrained and spec.adapter.method != "full":
        yield "The frozen backbone has random weights: this is a control, not a model to use."


def _of_memory(spec: RunSpec, findings: int, free: int, needed: int | None) -> Iterable[str]:
    if needed is None:
        return
    parts, asked = memory.parts(spec, findings), spec.train.accumulation
    if parts > 1 and asked is None:
        yield f"A batch goes through the network in {parts} parts: the whole does not fit."
    if needed <= free:
        return
    said = f"About {memory.in_words(needed)} of memory are needed, {memory.in_words(free)} are free"
    fewest = memory.fewest_parts(spec, findings, free)
    yield f"{said}: in {fewest} parts (--accumulation {fewest}) it fits." if fewest else f"{said}."


def _like_before(
    spec: RunSpec, earlier: Iterable[tuple[RunSpec, float]]
) -> tuple[float | None, str]:
    def kind(one: RunSpec) -> Any:
        one = one.resolved()
        return (
            one.data.name, one.data.label_fraction, one.data.split_file,
            one.model.backbone, one.model.input_size,
            one.adapter.method, one.train.epochs, one.train.batch_size, one.train.device,
            one.train.validation, one.train.augmented_copies,
        )  # fmt: skip

    for other, seconds in earlier:
        if kind(other) == kind(spec):
            return seconds, "as long as the last run like this"
    return None, ""


def _calculated(
    spec: RunSpec, images: int, sizes: dict[str, int], cache: Path
) -> tuple[float, str]:
    """Seconds of computing, and whose speed they were calculated from."""
    gpu = capacity.gpu(spec.train.device)
    half = precision.resolve_precision(spec.train.precision, gpu=gpu)
    work = throughput.known(cache, half, gpu=gpu)
    basis = "calculated from this machine's measured speed"
    if work is None and gpu:
        work = throughput.operations_per_second(cache, half, gpu=True)
    elif work is None:
        work = throughput.usual(half)
        basis = "calculated for a usual processor, until a run has measured this one"
    card = backbone_card(spec.model.backbone)
    forward = (
        throughput.forward_operations(card.name, spec.model.input_size or card.input_size) / work
    )
    return _passes(spec, images, sizes, forward, slower=half != "fp32" and not gpu), basis


def _passes(
    spec: RunSpec, images: int, sizes: dict[str, int], forward: float, *, slower: bool
) -> float:
    """Seconds of a run's passes through the network, each picture's way to it among them.

    Args:
        spec: The run.
        images: Training images.
        sizes: Images of the other splits.
        forward: Seconds of one picture's forward pass.
        slower: Whether the way back is slow: see ``SLOWER_IN_BF16``.
    """
    method = spec.adapter.method
    a_picture = MILLISECONDS_A_PICTURE / 1000
    once = forward + a_picture
    kept = _kept_share(spec)
    if kept == 1:
        return (_versions(spec) * images + 2 * sizes["val"] + sizes["test"]) * once
    rest = (1 - kept) * forward
    again = float(spec.train.activation_checkpointing)
    a_step = (PASSES.get(method, ADAPTER_PASSES) + again) * rest
    a_step *= SLOWER_IN_BF16 if slower else 1.0
    a_step += 0 if kept else a_picture
    passes = spec.train.epochs * images * a_step
    validated = _validated(spec, images, sizes["val"])
    if kept:
        beforehand = _versions(spec) * images + sizes["val"] + sizes["test"]
        return passes + beforehand * (once - rest) + (validated + sizes["test"]) * rest
    return passes + (validated + sizes["test"]) * once


def _versions(spec: RunSpec) -> int:
    """How often a frozen part has to be computed for a training picture."""
    return min(spec.train.augmented_copies or 1, spec.train.epochs)


def _kept_share(spec: RunSpec) -> float:
    """Share of the network that is computed once a picture: 1 for a linear probe, mostly 0."""
    train = spec.train
    if train.augmentation != "none" and train.augmented_copies is None:
        return 0.0
    if spec.adapter.method == "linear":
        return 1.0
    if train.drop_path > 0:
        return 0.0
    from core.models.tuning import frozen_prefix

    card = backbone_card(spec.model.backbone)
    share = frozen_prefix.frozen_share(card, spec.adapter, spec.model.input_size or card.input_size)
    return share if share >= frozen_prefix.WORTH else 0.0


def _validated(spec: RunSpec, images: int, validation: int) -> int:
    """Studies that are predicted to find the best epoch and to score it."""
    train = spec.train
    rounds = None
    if train.validation == "budget":
        rounds = validation_schedule.validation_rounds(
            images=images,
            epochs=train.epochs,
            validation=validation,
            share=train.validation_share,
            method=spec.adapter.method,
        )
    if rounds is None:
        return (train.epochs + 1) * validation
    return rounds.studies(train.epochs, validation)


def _unprepared(spec: RunSpec, dataset: ChestDataset, ids: list[str], cache: Path) -> int:
    """About how many of these pictures the cache does not hold, and take time to make."""
    from core.data.cache.image_cache import ImageCache, cache_side

    size = spec.model.input_size or backbone_card(spec.model.backbone).input_size
    side = cache_side(size)
    asked = ids[:: max(1, len(ids) // SAMPLE)]
    try:
        missing = ImageCache(cache, dataset, side).missing(asked)
    except CoreError:
        return 0  # what is wrong with files or disk is the run's to say
    slow = sum(not dataset.is_quick(one, side) for one in missing)
    return round(slow / max(1, len(asked)) * len(ids))
