"""Bytes of a network's tensors in training and prediction, precomputed or counted.

torch is loaded only where the bytes have to be counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from core.config.defaults import EVALUATION_BATCH, FROZEN_BACKBONE
from core.config.run import AdapterSpec, ModelSpec, RunSpec, TrainSpec
from core.hardware import precision
from core.hardware.precision import Precision
from core.models.backbones.registry import backbone_card
from core.models.tuning import precomputed

if TYPE_CHECKING:
    from torch import Tensor, nn

COUNTED_BATCHES = (4, 32)
"""Batch sizes that are counted. Memory is linear in the batch size, so that two are enough."""

MIN_FINDINGS = 32
"""A head with fewer outputs is counted as one with 32: the difference is a few kilobytes, and one
count then serves all of these data sets."""


@dataclass(frozen=True)
class MemoryQuery:
    """Everything that determines the bytes of a network's tensors.

    Attributes:
        backbone: Name of the backbone.
        adapter: Tuning method and its settings.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        gpu: Whether it runs on a GPU.
        input_size: Side of the input in pixels; by default the backbone's own.
        findings: Outputs of the classifier.
        drop_path: Rate of stochastic depth.
        augmented: Whether the inputs change from epoch to epoch.
        checkpointing: Whether activations are recomputed in the backward pass.
    """

    backbone: str
    adapter: AdapterSpec
    precision: Precision
    gpu: bool = False
    input_size: int | None = None
    findings: int = MIN_FINDINGS
    drop_path: float = TrainSpec().drop_path
    augmented: bool = False
    checkpointing: bool = False


@dataclass(frozen=True)
class TensorBytes:
    """Bytes of a network's tensors.

    Attributes:
        weights: All weights, float32.
        trainable: The weights that train.
        predicting: Peak of the activations while studies are predicted.
        fixed: Part of a training step that does not depend on the batch, such as gradients.
        each: Part of a training step per study in a micro-batch.
    """

    weights: int
    trainable: int
    predicting: int
    fixed: float
    each: float


def tensor_bytes(query: MemoryQuery) -> TensorBytes | None:
    """The bytes of a network's tensors, precomputed if possible, otherwise counted.

    Returns:
        None if the network cannot run on the meta device.
    """
    return _precomputed(query) or counted(query)


def _precomputed(query: MemoryQuery) -> TensorBytes | None:
    size = query.input_size
    default = MemoryQuery(query.backbone, query.adapter, query.precision, input_size=size)
    entry = precomputed.find(backbone_card(query.backbone), query.adapter, size)
    if entry is None or query.adapter.dropout or query != default:
        return None
    values = entry.bytes.get(query.precision)
    return None if values is None else TensorBytes(**values)


@lru_cache(maxsize=256)
def counted(query: MemoryQuery) -> TensorBytes | None:
    """Count the bytes of a network's tensors in a training step and a prediction.

    Both run on torch's meta device, so that nothing is allocated.

    Returns:
        None if the network cannot run on the meta device, because it needs values.
    """
    import torch

    from core.models.backbones.build import checkpoint_activations
    from core.models.tuning import frozen_prefix
    from core.resources import tensor_memory

    card, gpu = backbone_card(query.backbone), query.gpu
    size, half = query.input_size or card.input_size, precision.half(query.precision)

    def images(count: int) -> Tensor:
        return torch.empty(count, card.channels, size, size, device="meta")

    model = _meta_model(query, size)
    if query.checkpointing:
        checkpoint_activations(model, card)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    trainable = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    fixed, each = 0.0, 0.0
    first, blocks = frozen_prefix.frozen_blocks(model)
    # Without augmentation a frozen network is computed once per image; only its head then trains.
    head_only = first == blocks and not query.augmented
    try:
        predicting = tensor_memory.prediction(model.eval(), images(EVALUATION_BATCH), half, gpu=gpu)
        if not head_only:
            model.train(query.adapter.method not in FROZEN_BACKBONE)
            small, large = COUNTED_BATCHES
            few = tensor_memory.step(model, images(small), half, gpu=gpu)
            many = tensor_memory.step(model, images(large), half, gpu=gpu)
            # The peak is in the forward or in the backward pass; the steeper line decides.
            slopes = (many.forward - few.forward, many.backward - few.backward)
            each = max(slopes) / (large - small)
            fixed = max(many.forward, many.backward) - each * large
    except (RuntimeError, TypeError, ValueError, AssertionError, AttributeError):
        return None  # networks that need values fail in many ways; the prediction is optional
    return TensorBytes(weights, trainable, predicting, fixed, each)


def _meta_model(query: MemoryQuery, size: int) -> nn.Module:
    from core.classifier.build import build_classifier
    from core.models.backbones import bf16_attention

    default = backbone_card(query.backbone).input_size
    given = None if size == default else size
    backbone = ModelSpec(backbone=query.backbone, input_size=given, pretrained=False)
    spec = RunSpec(model=backbone, adapter=query.adapter)
    model = build_classifier(spec, query.findings, drop_path=query.drop_path, meta=True).model
    if query.precision == "bf16" and not query.gpu:
        bf16_attention.install(model, bf16_attention.patches(model))
    return model
