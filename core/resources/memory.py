"""Memory of a run on its device, predicted before it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.config.run import ResolvedSpec, TrainSpec
from core.errors import ConfigurationError
from core.formatting import capitalized, gigabytes
from core.hardware import available_memory, precision
from core.models.backbones.registry import backbone_card
from core.resources.network_memory import MIN_FINDINGS, MemoryQuery, TensorBytes, tensor_bytes

PROCESS_BYTES = {"cpu": 0.95e9, "cuda": 0.5e9}
"""Bytes of a process without a model: on the host its libraries with the buffers of their kernels,
on a GPU its context."""

SLACK_FULL, SLACK_FROZEN, SLACK_CHECKPOINTING = 1.25, 1.45, 0.4
"""Memory of a training step on the host relative to the bytes of its tensors.

Kernels make copies, and the allocator leaves gaps between the tensors that are kept for the
backward pass; the gaps are larger with a frozen backbone, which has no gradients, and larger again
with activation checkpointing. The factors are fitted to fourteen runs (``tests.benchmarks.memory``
and the default run; ViT-Tiny, S and B, ResNet-50; batches of 16 to 64). For the runs of the
benchmark, measured again with chunked attention, the predictions are 6% below to 11% above the
measurement. A GPU's allocator reports the bytes of tensors alone; the factors are not used there
and nothing was measured.
"""

BYTES_PER_MEMBER = 0.11e9
"""Bytes on the host for each of several runs in one process in addition to its tensors: a thread
with its allocator arena, and a data set. Fitted to joint training of the default run with two,
three and six ranks, which needed 1.48, 1.69 and 2.30 GB."""

OPTIMIZER_VALUES = {"adamw": 2, "sgd": 1}
"""Values that an optimizer stores per trainable parameter."""

SAVED_COPIES = 3
"""Copies of the trainable weights while they are saved: tensors, their bytes, and the file."""

USABLE_SHARE = 0.9
"""Share of a device's memory that a run may fill; the rest is left to other programs."""

MAX_BYTES_PER_PIXEL = 20_000
"""Bytes of a training step per input pixel, more than any backbone needs: the highest value is
14,500 (EfficientNet-B7, fully trained, in float32); the registered backbones need 800 to 11,000."""

LARGEST_BATCH = 4096


@dataclass(frozen=True)
class Footprint:
    """Bytes of a run by purpose.

    Attributes:
        base: The process without a model.
        weights: All weights, float32.
        trainable: The weights that train; their gradients are as large.
        state: State of the optimizer.
        predicting: Peak of the activations while studies are predicted.
        fixed: Part of a training step that does not depend on the batch, such as gradients.
        each: Part of a training step per study in a micro-batch.
        saving: Copies on the host while weights are read or written.
    """

    base: float
    weights: int
    trainable: int
    state: int
    predicting: int
    fixed: float
    each: float
    saving: int

    def peak(self, batch: int, micro_batches: int = 1) -> int:
        """Peak memory of the run in bytes."""
        studies = -(-batch // micro_batches)
        # From the second micro-batch on, the accumulated gradients are in memory as well.
        accumulated = self.trainable if micro_batches > 1 else 0
        step = self.fixed + self.each * studies + accumulated
        # After a step the gradients stay while the model predicts or is saved.
        between_steps = self.trainable + max(self.predicting, self.saving)
        return round(self.base + self.weights + self.state + max(step, between_steps))


def predict_memory(spec: ResolvedSpec, findings: int) -> int | None:
    """Predict the peak memory of a run: of the GPU, or without one of the host.

    The model is built as the run builds it. A training step runs on torch's meta device in the
    run's precision while the bytes of all live tensors are summed (see ``SLACK_FULL``). Not
    included are images that are memory-mapped from the cache (the system can free their pages),
    the processes that decode images before training, the effect of ``torch.compile``, and the
    division of a batch among several processes.

    Args:
        spec: The run.
        findings: Outputs of the classifier.

    Returns:
        Bytes; None if the model cannot run on the meta device, because it needs values.

    Raises:
        CoreError: The model of the run cannot be built.
    """
    needed = footprint(spec, findings)
    if needed is None:
        return None
    return needed.peak(spec.train.batch_size, micro_batches(spec, findings))


def predict_together(specs: Sequence[ResolvedSpec]) -> int | None:
    """Predict the peak memory of joint training: one process, one backbone, shared forward passes.

    Args:
        specs: The runs, with the same backbone and tuning method; at least one.

    Returns:
        Bytes; None if the model cannot run on the meta device.
    """
    each = [one for spec in specs if (one := footprint(spec, MIN_FINDINGS)) is not None]
    if len(each) < len(specs):
        return None
    # The stacked batch holds the studies of all runs; each run adds its own adapter (weights and
    # gradients) and its optimizer's state to those of the first.
    first = replace(each[0], predicting=sum(one.predicting for one in each))
    total = first.peak(sum(spec.train.batch_size for spec in specs))
    total += sum(2 * other.trainable + other.state for other in each[1:])
    if len(specs) > 1 and not available_memory.gpu(specs[0].train.device):
        total += round(BYTES_PER_MEMBER * len(specs))
    return total


def micro_batches(spec: ResolvedSpec, findings: int) -> int:
    """The number of micro-batches per batch of a run on this machine.

    Args:
        spec: The run.
        findings: Outputs of the classifier.

    Returns:
        The number that the run sets; by default the fewest that fit in ``USABLE_SHARE`` of the
        device, or the batch size if none fit.
    """
    if spec.train.accumulation is not None:
        return spec.train.accumulation
    if _for_another_machine(spec.train):
        return 1
    limit = USABLE_SHARE * available_memory.of(spec.train.device).total
    pixels = (spec.model.input_size or backbone_card(spec.model.backbone).input_size) ** 2
    if spec.train.batch_size * pixels * MAX_BYTES_PER_PIXEL < limit / 2:
        return 1  # fits for certain; counting takes a second
    return fewest_micro_batches(spec, findings, limit) or spec.train.batch_size


def fewest_micro_batches(spec: ResolvedSpec, findings: int, limit: float) -> int:
    """The fewest micro-batches, as a power of two, with which a run fits in memory.

    Args:
        spec: The run; its own number of micro-batches is ignored.
        findings: Outputs of the classifier.
        limit: Available bytes.

    Returns:
        1 up to the batch size; also 1 if the memory cannot be predicted; 0 if none fit.
    """
    needed, batch = footprint(spec, findings), spec.train.batch_size
    if needed is None:
        return 1
    count = 1
    while count < batch and needed.peak(batch, count) > limit:
        count = min(batch, 2 * count)
    return count if needed.peak(batch, count) <= limit else 0


def largest_batch(spec: ResolvedSpec, findings: int, limit: float) -> int:
    """The largest batch, as a power of two, that fits in memory.

    Args:
        spec: The run; its own batch size is ignored, its number of micro-batches is not.
        findings: Outputs of the classifier.
        limit: Available bytes.

    Returns:
        1 to 4,096; 0 if not even one study fits or the memory cannot be predicted.
    """
    needed, batch = footprint(spec, findings), LARGEST_BATCH
    if needed is None:
        return 0
    while batch and needed.peak(batch, min(batch, spec.train.accumulation or 1)) > limit:
        batch //= 2
    return batch


def check_memory(spec: ResolvedSpec, findings: int) -> None:
    """Refuse a run that needs more memory than its device has in total.

    Raises:
        ConfigurationError: It does not fit; ``field`` is the batch size.
    """
    if _for_another_machine(spec.train):
        return
    needed, total = predict_memory(spec, findings), available_memory.of(spec.train.device).total
    if needed is None or needed <= total:
        return
    # Unless their number is set, micro-batches shrink to single images before this fails.
    fixed = spec.train.accumulation is not None
    subject = f"Batches of {spec.train.batch_size:,} need" if fixed else "Even single images need"
    raise ConfigurationError(
        f"{subject} about {gigabytes(needed)} of memory with "
        f"{backbone_card(spec.model.backbone).title}; this device has {gigabytes(total)}.",
        _remedy(spec, largest_batch(spec, findings, total) if fixed else 0),
        field="train.batch_size",
    )


def memory_message(result: Mapping[str, Any]) -> str:
    """The measured and the predicted peak memory of a finished run, as text.

    Args:
        result: The run's result; the text is empty if it has no measurement.
    """
    on_gpu = str(result.get("device", "")).startswith("cuda")
    measured = result.get("peak_device_bytes" if on_gpu else "peak_host_bytes")
    predicted = result.get("predicted_bytes")
    if measured is None:
        return ""
    prediction = "" if predicted is None else f", about {gigabytes(predicted)} predicted"
    return f"{gigabytes(measured)} at most{prediction}"


def footprint(spec: ResolvedSpec, findings: int) -> Footprint | None:
    """Count the bytes of a run at any batch size; otherwise like ``predict_memory``."""
    card, train = backbone_card(spec.model.backbone), spec.train
    gpu = available_memory.gpu(train.device)
    query = MemoryQuery(
        backbone=card.name,
        adapter=spec.adapter.model_copy(update={"imported": None, "combined": None}),
        precision=precision.resolve_precision(train.precision, gpu=gpu),
        gpu=gpu,
        input_size=spec.model.input_size or card.input_size,
        findings=max(findings, MIN_FINDINGS),
        drop_path=train.drop_path,
        augmented=train.augmentation != "none",
        checkpointing=train.activation_checkpointing,
    )
    tensors = tensor_bytes(query)
    if tensors is None:
        return None
    slack = 1.0 if gpu else _slack(tensors, train)
    loading = tensors.weights * spec.model.pretrained - tensors.trainable
    return Footprint(
        base=PROCESS_BYTES["cuda" if gpu else "cpu"],
        weights=tensors.weights,
        trainable=tensors.trainable,
        state=OPTIMIZER_VALUES[train.optimizer] * tensors.trainable,
        predicting=tensors.predicting,
        fixed=slack * tensors.fixed,
        each=slack * tensors.each,
        saving=0 if gpu else max(SAVED_COPIES * tensors.trainable, loading),
    )


def _remedy(spec: ResolvedSpec, fitting: int) -> str:
    """What to change so that a run fits; ``fitting`` is the largest batch that does, or 0."""
    options = [f"lower the batch size to {fitting:,}"] if fitting else []
    if spec.adapter.method == "full":
        options.append("choose the method lora")
    if not spec.train.activation_checkpointing:
        options.append("add --activation-checkpointing")
    options.append("raise --accumulation" if fitting else "choose a smaller backbone or input size")
    listed = f"{', '.join(options[:-1])} or {options[-1]}" if len(options) > 1 else options[0]
    return f"{capitalized(listed)}."


def _slack(tensors: TensorBytes, train: TrainSpec) -> float:
    frozen = tensors.trainable < tensors.weights / 2
    slack = SLACK_FROZEN if frozen else SLACK_FULL
    return slack + SLACK_CHECKPOINTING * train.activation_checkpointing


def _for_another_machine(train: TrainSpec) -> bool:
    """Whether a run asks for a GPU that this machine does not have."""
    return train.device.startswith("cuda") and not available_memory.gpu(train.device)
