"""Building a backbone from its card: the network, the study's classifier on it, the weights."""

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
from core.models.backbones.checkpoints import LoadReport
from core.models.backbones.registry import BACKBONES, BackboneCard

HEAD_STD = 2e-5

FAMILIES: dict[str, dict[str, Any]] = {
    "vision_transformer": {"global_pool": "avg", "fc_norm": True},
    "deit": {"global_pool": "avg", "fc_norm": True},
    "eva": {"global_pool": "avg", "use_fc_norm": True},
    "beit": {"global_pool": "avg"},
    "swin_transformer": {},
    "swin_transformer_v2": {},
}
"""timm modules whose models take ``img_size``, with the arguments that give the study's classifier:
the mean of the patch tokens, then ``fc_norm``, then the head. Other models keep their own pooling.
"""

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

    Where weights are random (all of them without ``pretrained``, the head always) they are drawn
    from torch's global generator.

    Args:
        card: The backbone.
        findings: Outputs of the classifier.
        pretrained: Load the backbone's weights; otherwise start from random ones.
        weights: A local checkpoint to load instead of the card's own.
        input_size: Side of the input in pixels; by default the card's.
        drop_path: Rate of stochastic depth in the last block, rising from 0 in the first.

    Returns:
        The model, float32, which turns [B, C, S, S] into logits [B, findings], and what was loaded.

    Raises:
        ConfigurationError: The input size does not suit the architecture.
        ModelError: The weights cannot be found, read or matched.
    """
    size = input_size or card.input_size
    path = locate_weights.locate(card, weights) if pretrained else None
    model = network(card, findings, size, drop_path)
    if path is None:
        return model, LoadReport()
    state = translate_weights(model, checkpoints.read(path))
    return model, checkpoints.load(model, state, name=path.name, digest=checkpoints.sha256(path))


def network(card: BackboneCard, findings: int, size: int, drop_path: float = 0.0) -> nn.Module:
    """Build the network of a card with random weights and the study's head.

    Args:
        card: The backbone.
        findings: Outputs of the classifier.
        size: Side of the input in pixels.
        drop_path: Rate of stochastic depth.

    Raises:
        ConfigurationError: The input size does not suit the architecture.
    """
    family = _family(card)
    more = {"drop_path_rate": drop_path} if drop_path and family not in NO_DROP_PATH else {}
    try:
        model: Any = timm.create_model(
            card.architecture, pretrained=False, **model_arguments(card, findings, size), **more
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
            f"{card.title} cuts the input into patches of {patch[0]} px, which {size} px is no "
            "multiple of.",
            f"Choose {size // patch[0] * patch[0]} or {(size // patch[0] + 1) * patch[0]}.",
            field="model.input_size",
        )
    head = model.get_classifier()
    nn.init.trunc_normal_(head.weight, std=HEAD_STD)
    nn.init.zeros_(head.bias)
    built: nn.Module = model
    return built


def checkpoint_activations(model: nn.Module, card: BackboneCard) -> None:
    """Let a model keep only what enters each block, and compute the rest again for the gradients.

    Args:
        model: A timm model; it is changed.
        card: Its card.

    Raises:
        ConfigurationError: The architecture cannot do that.
    """
    try:
        model.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError) as error:
        raise ConfigurationError(
            f"{card.title} cannot compute its activations again on the way back.",
            "Leave out --activation-checkpointing; --accumulation saves memory too.",
            field="train.activation_checkpointing",
        ) from error


def model_arguments(card: BackboneCard, findings: int, size: int) -> dict[str, Any]:
    """What ``timm.create_model`` is given for a card beside the architecture's name.

    Args:
        card: The backbone.
        findings: Outputs of the classifier.
        size: Side of the input in pixels.
    """
    family = _family(card)
    sized = {"img_size": size} if family in FAMILIES else {}
    given = {"num_classes": findings, "in_chans": card.channels}
    return {**given, **FAMILIES.get(family, {}), **sized, **card.arguments}


def _family(card: BackboneCard) -> str:
    module: str = model_entrypoint(card.architecture.split(".")[0]).__module__
    return module.rsplit(".", 1)[-1]


def translate_weights(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring the keys of a checkpoint to the names that the model has.

    Args:
        model: A timm model.
        state: Tensors as ``checkpoints.read`` gives them, in any known layout.
    """
    found = checkpoint_layouts.translate(model, state)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None or not any(checkpoints.differences(model, found)):
        return found
    # timm brings older weights of its own up to date.
    converted: dict[str, Tensor] = convert(dict(state), model)
    return found if any(checkpoints.differences(model, converted)) else converted


def fitting_backbones(state: Mapping[str, Tensor]) -> list[BackboneCard]:
    """The backbones of the catalogue whose encoder a checkpoint fills.

    Args:
        state: Tensors as ``checkpoints.read`` gives them.
    """
    light = {key: value.to("meta") for key, value in state.items()}
    found = []
    for card in BACKBONES.values():
        with torch.device("meta"):
            model = network(card, 1, card.input_size)
            if checkpoints.fits(model, checkpoint_layouts.translate(model, light)):
                found.append(card)
    return found
