"""Cost of a run before it starts: data, parameters, time and memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.config.defaults import CLOSED_FORM, FROZEN_BACKBONE, WITHOUT_BACKBONE
from core.config.run import ResolvedSpec, RunSpec
from core.data import splits, subsets
from core.data.base import ChestDataset
from core.data.datasets.opened import open_cached
from core.errors import CoreError
from core.formatting import duration, gigabytes
from core.hardware import available_memory, precision
from core.models.backbones.registry import backbone_card
from core.resources import memory, throughput, validation_schedule

PASSES = {"full": 3.0} | dict.fromkeys(FROZEN_BACKBONE, 1.0)
"""Cost of a training step in forward passes: the forward pass, the gradients of the activations,
and those of the weights. A probe needs one forward pass per study, not one per epoch."""
ADAPTER_PASSES = 2.3
SLOWER_IN_BF16 = 1.25
"""Factor of these on a CPU in bf16, where the backward pass gains less than the forward pass: see
``core.hardware.precision.multiplies_bf16``."""
FIT_MILLISECONDS = {"logistic": 1.5, "knn": 1.0, "pixels": 0.6}
"""Time per labelled image to fit a method in closed form, with 14 findings."""
START_SECONDS = 8.0
MILLISECONDS_PER_IMAGE = 0.4
MILLISECONDS_TO_DECODE = 25.0
"""Time on one core to draw a phantom or to decode a PNG of 1024 px."""
SAMPLE = 200
"""Number of images that are looked up in the cache, to estimate how many have to be decoded."""


@dataclass(frozen=True)
class Cost:
    """Data, parameters, time and memory of a run.

    Attributes:
        images: Labelled training images.
        patients: Patients of these images.
        positives: Positive images by finding.
        val_images: Images of the validation split.
        test_images: Images of the test split.
        trainable: Parameters that train.
        total: Parameters of the whole model.
        seconds: Predicted wall time.
        basis: What the time is based on.
        starting: Part of the time for loading the program, needed once per process.
        preparing: Part of the time for images that are not in the cache yet.
        unprepared: Approximate number of these images.
        memory: Predicted peak memory in bytes, of the GPU or without one of the host; None if it
            cannot be predicted.
        available: Bytes of that memory that are free now.
        capacity: Bytes of that memory in total.
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
        """Trainable fraction of the parameters, 0 to 1."""
        return self.trainable / self.total


def estimate(spec: RunSpec, cache: Path, earlier: Iterable[tuple[RunSpec, float]] = ()) -> Cost:
    """Predict what a run trains on, how long it takes and how much memory it needs.

    Args:
        spec: The run.
        cache: The workspace's cache, where this machine's measured speed is stored.
        earlier: Finished runs of this machine with their wall time in seconds, latest first; the
            first one of the same kind replaces the calculated time.

    Raises:
        CoreError: The run itself would fail: a name is unknown, a folder is missing, or the rank is
            larger than a layer.
    """
    from core.models.tuning.apply import count_parameters

    resolved = spec.resolved()
    dataset = open_cached(resolved.data)
    ids = subsets.labelled(dataset, resolved.data)
    card = backbone_card(resolved.model.backbone)
    findings = len(dataset.findings)
    count = count_parameters(card, resolved.adapter, findings, resolved.model.input_size)
    positives = splits.positives(dataset, ids)
    needed = memory.predict_memory(resolved, findings)
    device = available_memory.of(resolved.train.device)
    notes = [
        *_notes(resolved, positives, card.leaks if card.source != "embedded" else ""),
        *_memory_notes(resolved, findings, device.free, needed),
    ]
    time = _time(resolved, dataset, ids, cache, earlier)
    return Cost(
        images=len(ids),
        patients=int(dataset.table.loc[ids, "patient"].nunique()),
        positives=positives,
        val_images=len(dataset.ids("val")),
        test_images=len(dataset.ids("test")),
        trainable=count.trainable,
        total=count.total,
        seconds=time.seconds,
        basis=time.basis,
        starting=time.starting,
        preparing=time.preparing,
        unprepared=time.unprepared,
        memory=needed,
        available=device.free,
        capacity=device.total,
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Time:
    seconds: float
    basis: str
    starting: float = 0.0
    preparing: float = 0.0
    unprepared: int = 0


def _time(
    spec: ResolvedSpec,
    dataset: ChestDataset,
    ids: list[str],
    cache: Path,
    earlier: Iterable[tuple[RunSpec, float]],
) -> _Time:
    measured = _earlier_time(spec, earlier)
    if measured is not None:
        return _Time(measured, "as long as the last run like this")
    sizes = {name: len(dataset.ids(name)) for name in ("val", "test")}
    unprepared = _unprepared(
        spec, dataset, [*ids, *dataset.ids("val"), *dataset.ids("test")], cache
    )
    preparing = unprepared * MILLISECONDS_TO_DECODE / 1000 / (os.cpu_count() or 1)
    computing, basis = _calculated(spec, len(ids), sizes, cache)
    if preparing > 1:
        basis += f", {duration(preparing)} of it for images that are not in the cache yet"
    total = START_SECONDS + preparing + computing
    return _Time(total, basis, START_SECONDS, preparing, unprepared)


def _notes(spec: ResolvedSpec, positives: dict[str, int], leaks: str) -> Iterable[str]:
    empty = [name for name, count in positives.items() if count == 0]
    if empty:
        yield f"No positive image for {', '.join(empty)}: nothing can be learned about it."
    few = [name for name, count in positives.items() if 0 < count < 5]
    if few:
        yield f"Fewer than five positive images for {', '.join(few)}."
    if leaks:
        yield leaks
    if spec.adapter.method in WITHOUT_BACKBONE:
        yield "Uses grey values only: no backbone and no weights."
    elif not spec.model.pretrained and spec.adapter.method != "full":
        yield "The frozen backbone has random weights: this is a control, not a model to use."


def _memory_notes(
    spec: ResolvedSpec, findings: int, free: int, needed: int | None
) -> Iterable[str]:
    if needed is None:
        return
    count = memory.micro_batches(spec, findings)
    if count > 1 and spec.train.accumulation is None:
        yield f"Each batch is divided into {count} micro-batches, because a whole one does not fit."
    if needed <= free:
        return
    shortage = f"About {gigabytes(needed)} of memory are needed, {gigabytes(free)} are free"
    fewest = memory.fewest_micro_batches(spec, findings, free)
    hint = f": with {fewest} micro-batches (--accumulation {fewest}) it fits" if fewest else ""
    yield f"{shortage}{hint}."


def _earlier_time(spec: ResolvedSpec, earlier: Iterable[tuple[RunSpec, float]]) -> float | None:
    """Seconds of the first earlier run of the same kind; None if there is none."""

    def kind(one: RunSpec) -> Any:
        return (
            one.data.name, one.data.label_fraction, one.data.split_file,
            one.data.fold and one.data.fold.partition("/")[2], one.adapter.combined,
            one.model.backbone, one.model.input_size,
            one.adapter.method, one.train.epochs, one.train.batch_size, one.train.device,
            one.train.validation, one.train.augmented_copies,
        )  # fmt: skip

    wanted = kind(spec)
    return next((seconds for other, seconds in earlier if kind(other) == wanted), None)


def _calculated(
    spec: ResolvedSpec, images: int, sizes: dict[str, int], cache: Path
) -> tuple[float, str]:
    """Seconds of computing, and whose speed they are calculated from."""
    gpu = available_memory.gpu(spec.train.device)
    chosen = precision.resolve_precision(spec.train.precision, gpu=gpu)
    speed = throughput.measured(cache, chosen, gpu=gpu)
    basis = "calculated from this machine's measured speed"
    if speed is None and gpu:
        speed = throughput.operations_per_second(cache, chosen, gpu=True)
    elif speed is None:
        speed = throughput.typical(chosen)
        basis = "calculated for a typical CPU, until a run has measured this one"
    card = backbone_card(spec.model.backbone)
    size = spec.model.input_size or card.input_size
    forward = throughput.forward_operations(card.name, size) / speed
    return _compute_seconds(spec, images, sizes, forward, slow=chosen != "fp32" and not gpu), basis


def _compute_seconds(
    spec: ResolvedSpec, images: int, sizes: dict[str, int], forward: float, *, slow: bool
) -> float:
    """Seconds of a run's passes through the network, including the loading of each image.

    Args:
        spec: The run.
        images: Training images.
        sizes: Images of the other splits.
        forward: Seconds of one image's forward pass.
        slow: Whether the backward pass is slow: see ``SLOWER_IN_BF16``.
    """
    loading = MILLISECONDS_PER_IMAGE / 1000
    method, once = spec.adapter.method, images + 2 * sizes["val"] + sizes["test"]
    if method in CLOSED_FORM:
        passes = loading if method in WITHOUT_BACKBONE else forward + loading
        return once * passes + images * FIT_MILLISECONDS[method] / 1000
    whole = forward + loading
    cached = _cached_share(spec)
    if cached == 1:
        tokens = method == "attentive" or spec.adapter.head == "attentive"
        # Stored tokens take about as long to read as an image; stored features take no time.
        reading = spec.train.epochs * images * loading if tokens else 0.0
        return (once + (_copies(spec) - 1) * images) * whole + reading
    rest = (1 - cached) * forward
    passes = PASSES.get(method, ADAPTER_PASSES)
    step = (passes + spec.train.activation_checkpointing) * rest
    step *= SLOWER_IN_BF16 if slow else 1.0
    step += 0 if cached else loading
    training = spec.train.epochs * images * step
    predicted = _validated(spec, images, sizes["val"]) + sizes["test"]
    if cached:
        # The frozen prefix runs once per image and copy, the rest at every step.
        once = _copies(spec) * images + sizes["val"] + sizes["test"]
        return training + once * (whole - rest) + predicted * rest
    return training + predicted * whole


def _copies(spec: ResolvedSpec) -> int:
    """How many times a frozen prefix is computed per training image."""
    return min(spec.train.augmented_copies or 1, spec.train.epochs)


def _cached_share(spec: ResolvedSpec) -> float:
    """Share of the network that is computed once per image: 1 for a linear probe, mostly 0."""
    train = spec.train
    if train.augmentation != "none" and train.augmented_copies is None:
        return 0.0
    if spec.adapter.method in FROZEN_BACKBONE:
        return 1.0
    if train.drop_path > 0:
        return 0.0
    from core.models.tuning import frozen_prefix

    card = backbone_card(spec.model.backbone)
    share = frozen_prefix.frozen_share(card, spec.adapter, spec.model.input_size or card.input_size)
    return share if share >= frozen_prefix.WORTH else 0.0


def _validated(spec: ResolvedSpec, images: int, validation: int) -> int:
    """Predictions of studies that are needed to find the best epoch and to score it."""
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


def _unprepared(spec: ResolvedSpec, dataset: ChestDataset, ids: list[str], cache: Path) -> int:
    """Approximate number of images that are not in the cache and take time to decode."""
    from core.data.cache.image_cache import ImageCache, cache_side

    size = spec.model.input_size or backbone_card(spec.model.backbone).input_size
    side = cache_side(size)
    sample = ids[:: max(1, len(ids) // SAMPLE)]
    try:
        missing = ImageCache(cache, dataset, side).missing(sample)
    except CoreError:
        return 0  # the run itself reports errors of files and disk
    slow = sum(not dataset.is_quick(study, side) for study in missing)
    return round(slow / max(1, len(sample)) * len(ids))
