"""Building a classifier from a backbone's card: network, classification head, weights."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import model_entrypoint
from torch import Tensor, nn

from core.errors import ConfigurationError
from core.models.backbones import checkpoint_layouts, checkpoints, locate_weights
from core.models.backbones.card import BackboneCard
from core.models.backbones.checkpoints import LoadReport
from core.models.backbones.registry import BACKBONES

HEAD_STD = 2e-5

FAMILIES: dict[str, dict[str, Any]] = {
    "vision_transformer": {"global_pool": "avg", "fc_norm": True},
    "deit": {"global_pool": "avg", "fc_norm": True},
    "eva": {"global_pool": "avg", "use_fc_norm": True},
    "beit": {"global_pool": "avg"},
    "swin_transformer": {},
    "swin_transformer_v2": {},
}
"""timm modules whose models take ``img_size``, with the arguments for the paper's classifier: mean
of the patch tokens, then ``fc_norm``, then the head. Other models keep their own pooling."""

NO_DROP_PATH = ("densenet", "vgg", "inception_v3", "test_densenet")
"""timm modules whose models have no stochastic depth."""


def build_backbone(
    card: BackboneCard,
    findings: int,
    *,
    pretrained: bool = True,
    weights: Path | None = None,
    input_size: int | None = None,
    drop_path: float = 0.0,
) -> tuple[nn.Module, LoadReport]:
    """Build a classifier of findings on a backbone.

    Random weights (all weights without ``pretrained``, the head always) are drawn from torch's
    global generator.

    Args:
        card: The backbone.
        findings: Number of outputs of the classifier.
        pretrained: Load the backbone's weights; otherwise use random weights.
        weights: A local checkpoint to load instead of the card's weights.
        input_size: Side of the input in pixels; by default the card's.
        drop_path: Rate of stochastic depth in the last block; it rises linearly from 0 in the
            first block.

    Returns:
        The model, float32, which maps [B, C, S, S] to logits [B, findings], and the load report.

    Raises:
        ConfigurationError: The input size does not suit the architecture.
        ModelError: The weights cannot be found, read or matched to the model.
    """
    size = input_size or card.input_size
    path = locate_weights.locate(card, weights) if pretrained else None
    model = network(card, findings, size, drop_path)
    if path is None:
        return model, LoadReport()
    state = translate_weights(model, checkpoints.read(path))
    return model, checkpoints.load(model, state, name=path.name, digest=checkpoints.sha256(path))


def network(card: BackboneCard, findings: int, size: int, drop_path: float = 0.0) -> nn.Module:
    """Build the network of a card with random weights and a new classification head.

    Args:
        card: The backbone.
        findings: Number of outputs of the classifier.
        size: Side of the input in pixels.
        drop_path: Rate of stochastic depth.

    Raises:
        ConfigurationError: The input size does not suit the architecture.
    """
    family = _family(card)
    options = {"drop_path_rate": drop_path} if drop_path and family not in NO_DROP_PATH else {}
    try:
        model: Any = timm.create_model(
            card.architecture, pretrained=False, **model_arguments(card, findings, size), **options
        )
    except (AssertionError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"{card.title} cannot be built for {size} px ({str(error).splitlines()[0]}).",
            f"Leave the input size at {card.input_size}.",
            field="model.input_size",
        ) from error
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if patch is not None and family in FAMILIES and size % patch[0]:
        raise ConfigurationError(
            f"{card.title} divides the input into patches of {patch[0]} px; {size} px is not a "
            f"multiple of {patch[0]}.",
            f"Choose {size // patch[0] * patch[0]} or {(size // patch[0] + 1) * patch[0]}.",
            field="model.input_size",
        )
    head = model.get_classifier()
    nn.init.trunc_normal_(head.weight, std=HEAD_STD)
    nn.init.zeros_(head.bias)
    built: nn.Module = model
    return built


def checkpoint_activations(model: nn.Module, card: BackboneCard) -> None:
    """Turn on activation checkpointing: store only block inputs, recompute the rest when needed.

    Args:
        model: A timm model; it is changed.
        card: Its card.

    Raises:
        ConfigurationError: The architecture does not support activation checkpointing.
    """
    try:
        model.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError) as error:
        raise ConfigurationError(
            f"{card.title} does not support activation checkpointing.",
            "Leave out --activation-checkpointing; --accumulation also saves memory.",
            field="train.activation_checkpointing",
        ) from error


def model_arguments(card: BackboneCard, findings: int, size: int) -> dict[str, Any]:
    """Keyword arguments of ``timm.create_model`` for a card."""
    family = _family(card)
    sized = {"img_size": size} if family in FAMILIES else {}
    basic = {"num_classes": findings, "in_chans": card.channels}
    return {**basic, **FAMILIES.get(family, {}), **sized, **card.arguments}


def _family(card: BackboneCard) -> str:
    module: str = model_entrypoint(card.architecture.split(".")[0]).__module__
    return module.rsplit(".", 1)[-1]


def translate_weights(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of a checkpoint to the model's names.

    Args:
        model: A timm model.
        state: Tensors as returned by ``checkpoints.read``, in any known layout.
    """
    translated = checkpoint_layouts.translate(model, state)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None or not any(checkpoints.differences(model, translated)):
        return translated
    # timm converts the layouts of its own older weights.
    converted: dict[str, Tensor] = convert(dict(state), model)
    return translated if any(checkpoints.differences(model, converted)) else converted


def fitting_backbones(state: Mapping[str, Tensor]) -> list[BackboneCard]:
    """The registered backbones whose encoder a checkpoint fits (see ``checkpoints.read``)."""
    shapes = {key: value.to("meta") for key, value in state.items()}
    fitting = []
    for card in BACKBONES.values():
        with torch.device("meta"):
            model = network(card, 1, card.input_size)
            if checkpoints.fits(model, checkpoint_layouts.translate(model, shapes)):
                fitting.append(card)
    return fitting
