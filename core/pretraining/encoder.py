"""Conversion between a pre-trained encoder with one input channel and files with three."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from core.errors import ModelError
from core.models.backbones import checkpoints

PROJECTION = "patch_embed.proj.weight"
NOT_EXPORTED = ("norm.", "fc_norm.", "head.")
"""Prefixes of tensors that a classifier on the encoder initialises itself."""


def export_encoder(encoder: Any) -> dict[str, Tensor]:
    """The encoder's weights in float16, with timm's names and three input channels."""
    state = {
        key: value.detach().cpu()
        for key, value in encoder.state_dict().items()
        if not key.startswith(NOT_EXPORTED)
    }
    # A grey image repeated to three channels must give the result of one channel.
    state[PROJECTION] = state[PROJECTION].repeat(1, 3, 1, 1) / 3
    return {key: value.half().contiguous() for key, value in state.items()}


def load_encoder(encoder: Any, path: Path) -> None:
    """Load weights, which may have three input channels, into an encoder with one.

    Args:
        encoder: A timm ViT with one input channel.
        path: A checkpoint with timm's names.

    Raises:
        ModelError: The file cannot be read, or does not fit the encoder.
    """
    state, wanted = checkpoints.read(path), encoder.state_dict()
    if PROJECTION in state and state[PROJECTION].shape[1] == 3:
        # Three channels with equal input equal one channel with the sum of their weights.
        state[PROJECTION] = state[PROJECTION].sum(1, keepdim=True)
    needed = [key for key in wanted if not key.startswith(NOT_EXPORTED)]
    differing = [key for key in needed if key not in state or state[key].shape != wanted[key].shape]
    if differing:
        raise ModelError(
            f"{path} does not fit the encoder to pre-train: {differing[0]} and "
            f"{len(differing) - 1} other tensors are missing or have another shape.",
            "Start from an encoder of the same architecture and input size.",
        )
    encoder.load_state_dict({key: state[key].float() for key in needed}, strict=False)
