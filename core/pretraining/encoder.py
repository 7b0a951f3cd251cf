"""A grey encoder as it is pre-trained, from and to files with three input channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from core.errors import ModelError
from core.models.backbones import checkpoints

PROJECTION = "patch_embed.proj.weight"


def exported(encoder: Any) -> dict[str, Tensor]:
    """The encoder as it is shipped: float16, timm's names, three input channels."""
    kept = {
        key: value.detach().cpu()
        for key, value in encoder.state_dict().items()
        if not key.startswith(("norm.", *checkpoints.FRESH))
    }
    # A grey picture repeated to three channels must give what one channel gave.
    kept[PROJECTION] = kept[PROJECTION].repeat(1, 3, 1, 1) / 3
    return {key: value.half().contiguous() for key, value in kept.items()}


def start_from(encoder: Any, path: Path) -> None:
    """Fill a grey encoder with weights that may have three input channels.

    Args:
        encoder: A timm ViT with one input channel.
        path: A checkpoint in timm's names.

    Raises:
        ModelError: The file cannot be read, or does not fit.
    """
    state, wanted = checkpoints.read(path), encoder.state_dict()
    if PROJECTION in state and state[PROJECTION].shape[1] == 3:
        # What three channels make of the same grey, one makes that holds their sum.
        state[PROJECTION] = state[PROJECTION].sum(1, keepdim=True)
    needed = [one for one in wanted if not one.startswith(("norm.", *checkpoints.FRESH))]
    unfit = [one for one in needed if one not in state or state[one].shape != wanted[one].shape]
    if unfit:
        raise ModelError(
            f"{path} does not fit the encoder that is to be pre-trained: {unfit[0]} and "
            f"{len(unfit) - 1} other tensors are missing or of another shape.",
            "Start from an encoder of the same architecture and input size.",
        )
    encoder.load_state_dict({one: state[one].float() for one in needed}, strict=False)
