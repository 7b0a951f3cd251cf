"""How much memory a run will take on its device, before it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from core.config.run import AdapterSpec, RunSpec, TrainSpec
from core.errors import ConfigurationError
from core.hardware import available_memory, precision
from core.hardware.precision import Precision
from core.models.backbones.registry import backbone_card
from core.models.tuning import precomputed

if TYPE_CHECKING:
    from torch import nn

    from core.models.backbones.card import BackboneCard

BASE = {"cpu": 0.95e9, "cuda": 0.5e9}
"""Bytes of a process that has loaded its libraries: on the host, with what their kernels keep from
the first step on; on a GPU, of its context."""

SLACK_FULL, SLACK_FROZEN, SLACK_AGAIN = 1.25, 1.45, 0.4
"""What a step on the host takes over the bytes of its tensors: kernels' copies, and gaps that the
allocator leaves between what is kept for the gradients, more where a frozen backbone gets none, and
where activations are computed again. Fitted to fourteen whole runs (``tests.benchmarks.memory`` and
the default one; ViT-Tiny, S and B, ResNet-50; batches of 16 to 64); of the former, measured again
since attention is taken in chunks, the predictions are 6% below to 11% above. A GPU's allocator
tells the tensors' bytes alone; there nothing was measured."""

A_MEMBER = 0.11e9
"""Bytes of the host that each of several runs in one process takes beside its tensors: a thread
with an allocator's arena, a data set. Fitted to the default run with two, three and six ranks: they
took 1.48, 1.69 and 2.30 GB."""

STATES = {"adamw": 2, "sgd": 1}
"""Values that an optimizer keeps for each parameter that trains."""

COPIES = 3
"""Copies of what trains while it is being saved: of the tensors, of their bytes, of the file."""

ROOM = 0.9
"""Share of a device's memory that a run makes itself fit; the rest is left to other programs."""

MOST_A_PIXEL = 20_000
"""Bytes that a step holds for a pixel of its input, more than with any backbone: the most are
14,500 (EfficientNet-B7, all of it trained, in float32), those of the catalogue 800 to 11,000."""

BATCHES = (4, 32)
"""Batches that are counted; memory is a straight line over the batch."""
MOST = 4096


FEW_FINDINGS = 32
"""A head for fewer findings is counted as one for so many: the difference is a few kilobytes."""


@dataclass(frozen=True)
class MemoryQuery:
    """What decides the bytes that a network holds.

    Attributes:
        backbone: Its name.
        adapter: How it is tuned.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        gpu: Whether it runs on a GPU.
        input_size: Side of its input in pixels; by default the card's.
        findings: Outputs of its classifier.
        drop_path: Its stochastic depth.
        augmented: Whether its inputs change from epoch to epoch.
        again: Whether activations are computed again on the way back.
    """

    backbone: str
    adapter: AdapterSpec
    precision: Precision
    gpu: bool = False
    input_size: int | None = None
    findings: int = FEW_FINDINGS
    drop_path: float = TrainSpec().drop_path
    augmented: bool = False
    again: bool = False


@dataclass(frozen=True)
class TensorBytes:
    """Bytes of a network's tensors.

    Attributes:
        weights: All weights, float32.
        trainable: Those that train.
        predicting: The most that lives while studies are predicted.
        fixed: What a training step holds whatever its batch, gradients among it.
        each: What it holds for every study that goes through the network at once.
    """

    weights: int
    trainable: int
    predicting: int
    fixed: float
    each: float


@dataclass(frozen=True)
class Footprint:
    """Bytes of a run by what they are for.

    Attributes:
        base: The process without a model.
        weights: All weights, float32.
        trainable: Those that train; their gradients are as large.
        state: What the optimizer keeps.
        predicting: The most that lives while studies are predicted.
        fixed: What a training step holds whatever its batch, gradients among it.
        each: What it holds for every study that goes through the network at once.
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

    def peak(self, batch: int, parts: int = 1) -> int:
        """The most bytes that a run has at once.

        Args:
            batch: Studies a step.
            parts: Parts in which they go through the network.
        """
        studies = -(-batch // parts)
        # From the second part on, the gradients of those before are there already.
        step = self.fixed + self.each * studies + (self.trainable if parts > 1 else 0)
        beside = self.trainable + max(self.predicting, self.saving)
        return round(self.base + self.weights + self.state + max(step, beside))


def predict_memory(spec: RunSpec, findings: int) -> int | None:
    """Predict the most memory that a run takes at once: a GPU's, or without one the host's.

    The model is built as the run builds it and taken through a step on torch's meta device, in the
    run's precision, while the bytes of all tensors alive are added up (see ``SLACK``). Left out are
    pictures that are mapped from the cache (the system takes their pages back when it needs them),
    the processes that decode pictures before the training starts, what ``torch.compile`` changes,
    and that several processes share a batch.

    Args:
        spec: The run.
        findings: Outputs of the classifier.

    Returns:
        Bytes; None where the meta device cannot tell: for a model that needs values to run.

    Raises:
        CoreError: Whatever would stop the run's model from being built.
    """
    found = footprint(spec, findings)
    if found is None:
        return None
    return found.peak(spec.train.batch_size, parts(spec, findings))


def predict_together(specs: Sequence[RunSpec]) -> int | None:
    """Predict the most memory of runs that share a process, its backbone and its forward passes.

    Args:
        specs: The runs, alike in their backbone and how it is tuned; at least one.

    Returns:
        Bytes; None where the meta device cannot tell.
    """
    found = [one for one in (footprint(spec, FEW_FINDINGS) for spec in specs) if one is not None]
    if len(found) < len(specs):
        return None
    shared = replace(found[0], predicting=sum(one.predicting for one in found))
    whole = shared.peak(sum(spec.train.batch_size for spec in specs))
    whole += sum(2 * other.trainable + other.state for other in found[1:])
    if len(specs) > 1 and not available_memory.gpu(specs[0].train.device):
        whole += round(A_MEMBER * len(specs))
    return whole


def parts(spec: RunSpec, findings: int) -> int:
    """Parts in which a run's batches go through the network on this machine.

    Args:
        spec: The run.
        findings: Outputs of the classifier.

    Returns:
        What the run asks for; by default as few as fit in ``ROOM`` of the device, or the batch
        size if none do.
    """
    if spec.train.accumulation is not None:
        return spec.train.accumulation
    if _elsewhere(spec.train):
        return 1
    room = ROOM * available_memory.of(spec.train.device).total
    pixels = (spec.model.input_size or backbone_card(spec.model.backbone).input_size) ** 2
    if spec.train.batch_size * pixels * MOST_A_PIXEL < room / 2:
        return 1  # known without counting, which takes a second
    return fewest_parts(spec, findings, room) or spec.train.batch_size


def fewest_parts(spec: RunSpec, findings: int, limit: float) -> int:
    """The fewest parts, as a power of two, in which a run's batch fits.

    Args:
        spec: The run, whatever its parts.
        findings: Outputs of the classifier.
        limit: Bytes there are.

    Returns:
        1 up to the batch size; 1 too if nothing is known of the run's memory, 0 if none fit.
    """
    found, batch = footprint(spec, findings), spec.train.batch_size
    if found is None:
        return 1
    count = 1
    while count < batch and found.peak(batch, count) > limit:
        count = min(batch, 2 * count)
    return count if found.peak(batch, count) <= limit else 0


def largest_batch(spec: RunSpec, findings: int, limit: float) -> int:
    """The largest batch that fits, as a power of two.

    Args:
        spec: The run, whatever its batch; one part a batch, unless it asks for more.
        findings: Outputs of the classifier.
        limit: Bytes there are.

    Returns:
        1 to 4,096; 0 if not even one study fits, or that is not known.
    """
    found, batch = footprint(spec, findings), MOST
    if found is None:
        return 0
    while batch and found.peak(batch, min(batch, spec.train.accumulation or 1)) > limit:
        batch //= 2
    return batch


def check_memory(spec: RunSpec, findings: int) -> None:
    """Refuse a run that needs more memory than its device has, however free it is.

    Args:
        spec: The run.
        findings: Outputs of the classifier.

    Raises:
        ConfigurationError: It cannot fit; ``field`` is the batch size.
    """
    if _elsewhere(spec.train):
        return
    needed, there = predict_memory(spec, findings), available_memory.of(spec.train.device).total
    if needed is None or needed <= there:
        return
    asked = spec.train.accumulation is not None
    fitting = largest_batch(spec, findings, there) if asked else 0
    ways = [f"lower the batch size to {fitting:,}"] if fitting else []
    if spec.adapter.method == "full":
        ways.append("choose the method lora")
    if not spec.train.activation_checkpointing:
        ways.append("add --activation-checkpointing")
    ways.append("raise --accumulation" if fitting else "choose a smaller backbone or input size")
    remedy = f"{', '.join(ways[:-1])} or {ways[-1]}." if len(ways) > 1 else f"{ways[0]}."
    whose = f"Batches of {spec.train.batch_size:,} need" if asked else "Even single pictures need"
    raise ConfigurationError(
        f"{whose} about {in_words(needed)} of memory with "
        f"{backbone_card(spec.model.backbone).title}; there are {in_words(there)}.",
        remedy[0].upper() + remedy[1:],
        field="train.batch_size",
    )


def memory_message(result: Mapping[str, Any]) -> str:
    """The most memory that a finished run took, and what was predicted, in words.

    Args:
        result: What it wrote at its end; empty words if that is of before it was measured.
    """
    on_gpu = str(result.get("device", "")).startswith("cuda")
    measured = result.get("peak_device_bytes" if on_gpu else "peak_host_bytes")
    predicted = result.get("predicted_bytes")
    if measured is None:
        return ""
    more = "" if predicted is None else f", about {in_words(predicted)} predicted"
    return f"{in_words(measured)} at most{more}"


def in_words(size: float) -> str:
    """A number of bytes to read at a glance: ``2.1 GB``, ``24 GB``."""
    return f"{size / 1e9:.1f} GB" if size < 9.95e9 else f"{size / 1e9:,.0f} GB"


def footprint(spec: RunSpec, findings: int) -> Footprint | None:
    """Count what a run of any batch holds; arguments, errors and None as for ``predict``."""
    spec = spec.resolved()
    card, train, gpu = (
        backbone_card(spec.model.backbone),
        spec.train,
        available_memory.gpu(spec.train.device),
    )
    question = MemoryQuery(
        backbone=card.name,
        adapter=spec.adapter.model_copy(update={"imported": None}),
        precision=precision.resolve_precision(train.precision, gpu=gpu),
        gpu=gpu,
        input_size=spec.model.input_size or card.input_size,
        findings=max(findings, FEW_FINDINGS),
        drop_path=train.drop_path,
        augmented=train.augmentation != "none",
        again=train.activation_checkpointing,
    )
    held = _known(question) or counted(question)
    if held is None:
        return None
    slack = 1.0 if gpu else _slack(held, again=train.activation_checkpointing)
    whole = held.weights * spec.model.pretrained
    return Footprint(
        base=BASE["cuda" if gpu else "cpu"],
        weights=held.weights,
        trainable=held.trainable,
        state=STATES[train.optimizer] * held.trainable,
        predicting=held.predicting,
        fixed=slack * held.fixed,
        each=slack * held.each,
        saving=0 if gpu else max(COPIES * held.trainable, whole - held.trainable),
    )


def _slack(held: TensorBytes, *, again: bool) -> float:
    frozen = held.trainable < held.weights / 2
    return (SLACK_FROZEN if frozen else SLACK_FULL) + SLACK_AGAIN * again


def _known(question: MemoryQuery) -> TensorBytes | None:
    """The answer that was counted beforehand, if it was."""
    size = question.input_size
    usual = MemoryQuery(question.backbone, question.adapter, question.precision, input_size=size)
    known = precomputed.find(backbone_card(question.backbone), question.adapter, size)
    if known is None or question.adapter.dropout or question != usual:
        return None
    found = known.bytes.get(question.precision)
    return None if found is None else TensorBytes(**found)


@lru_cache(maxsize=256)
def counted(question: MemoryQuery) -> TensorBytes | None:
    """Count what a network holds while it learns and predicts, taken through both without bytes.

    Returns:
        None where the network needs values to run.
    """
    import torch

    from core.config.defaults import EVALUATION_BATCH
    from core.models.backbones.build import checkpoint_activations
    from core.models.tuning import frozen_prefix
    from core.resources import tensor_memory as footprint

    card, gpu = backbone_card(question.backbone), question.gpu
    size, half = question.input_size or card.input_size, precision.half(question.precision)

    def pictures(count: int) -> Any:
        return torch.empty(count, card.channels, size, size, device="meta")

    model = _without_bytes(question, card, size)
    if question.again:
        checkpoint_activations(model, card)
    weights = sum(one.nbytes for one in model.parameters())
    trainable = sum(one.nbytes for one in model.parameters() if one.requires_grad)
    fixed, each = 0.0, 0.0
    first, blocks = frozen_prefix.frozen_blocks(model)
    frozen = first == blocks and not question.augmented
    try:
        predicting = footprint.prediction(model.eval(), pictures(EVALUATION_BATCH), half, gpu=gpu)
        if not frozen:
            model.train(question.adapter.method != "linear")
            few, many = (footprint.step(model, pictures(n), half, gpu=gpu) for n in BATCHES)
            slopes = (many.forward - few.forward, many.backward - few.backward)
            each = max(slopes) / (BATCHES[1] - BATCHES[0])
            fixed = max(many.forward, many.backward) - each * BATCHES[1]
    except (RuntimeError, TypeError, ValueError, AssertionError, AttributeError):
        return None  # a network that needs values says so in many ways, and nothing depends on this
    return TensorBytes(weights, trainable, predicting, fixed, each)


def _without_bytes(question: MemoryQuery, card: BackboneCard, size: int) -> nn.Module:
    import torch

    from core.models.backbones import bf16_attention
    from core.models.backbones.build import network
    from core.models.tuning.apply import apply_method

    with torch.device("meta"):
        model = network(card, question.findings, size, question.drop_path)
        model = apply_method(model, question.adapter)
    model = model.to("meta")  # some of peft's buffers were made elsewhere
    if question.precision == "bf16" and not question.gpu:
        bf16_attention.install(model, bf16_attention.patches(model))
    return model


def _elsewhere(train: TrainSpec) -> bool:
    """Whether a run is for another machine, since this one has no GPU."""
    return train.device.startswith("cuda") and not available_memory.gpu(train.device)
