"""Maps from a transformer's attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.errors import ModelError
from core.models.tuning import vpt
from core.saliency.methods import layers
from core.saliency.methods.cams import finite


def attention_rollout(model: nn.Module, pixels: Tensor) -> NDArray[np.float32]:
    """Attention rollout: how much of each patch reaches the pooled token through all blocks.

    Abnar and Zuidema, “Quantifying Attention Flow in Transformers”, 2020: heads are averaged, the
    residual connection counts half, and the blocks' matrices are multiplied. It knows nothing of
    the finding.

    Args:
        model: A ViT or EVA classifier.
        pixels: Network input of shape (batch, channels, height, width).

    Returns:
        Shares of shape (batch, rows, columns); they sum to at most 1 over a picture.

    Raises:
        ModelError: The network has no attention over patch tokens.
    """
    with layers.Frozen(model), recorded(model) as blocks, torch.inference_mode():
        layers.logits(model(pixels))
    flow = _identity(blocks[0])
    for attention in blocks:
        mixed = 0.5 * attention.mean(dim=1) + 0.5 * _identity(attention)
        flow = mixed @ flow
    return _over_patches(model, flow, pixels)


def attention_relevance(model: nn.Module, pixels: Tensor, finding: int) -> NDArray[np.float32]:
    """Gradient-weighted attention, specific to the finding.

    Chefer, Gur and Wolf, “Generic Attention-model Explainability”, 2021, equations 5 and 6: the
    positive part of attention times its gradient, averaged over heads, is added up along the
    blocks.

    Args:
        model: A ViT or EVA classifier.
        pixels: Network input of shape (batch, channels, height, width).
        finding: Index of the output to explain.

    Returns:
        Relevance of shape (batch, rows, columns), 0 and above, in logits.

    Raises:
        ModelError: The network has no attention over patch tokens.
        NotFiniteError: A gradient is NaN or infinite.
    """
    with layers.Frozen(model), recorded(model) as blocks, torch.enable_grad():
        output = layers.logits(model(pixels.detach().requires_grad_(True)))
        gradients = torch.autograd.grad(output[:, finding].sum(), blocks)
    flow = _identity(blocks[0])
    for attention, gradient in zip(blocks, gradients, strict=True):
        relevant = (attention * gradient).clamp_min(0).mean(dim=1).detach()
        flow = flow + relevant @ flow
    return _over_patches(model, flow - _identity(blocks[0]), pixels)


@contextmanager
def recorded(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect each block's attention matrix, (batch, heads, tokens, tokens), during a pass.

    timm's fused attention never forms the matrix, so it is switched off for the time being.

    Raises:
        ModelError: The network has no attention over patch tokens.
    """
    base = layers.network(model)
    modules: list[Any] = [one for one in base.modules() if hasattr(one, "fused_attn")]
    if layers.prefix_tokens(base) is None or not modules:
        raise ModelError(
            f"{type(base).__name__} has no attention over patch tokens.",
            "Choose a method for feature maps, such as grad-cam.",
        )
    if vpt.has_prompts(base):
        raise ModelError(
            "Visual prompts take part in the attention, and what passes through them belongs to no "
            "patch.",
            "Choose a method for feature maps, such as grad-cam.",
        )
    found: list[Tensor] = []
    fused = [module.fused_attn for module in modules]
    handles = []
    try:
        for module in modules:
            module.fused_attn = False
            hook = module.attn_drop.register_forward_hook(lambda _, __, out: found.append(out))
            handles.append(hook)
        yield found
    finally:
        for handle in handles:
            handle.remove()
        for module, flag in zip(modules, fused, strict=True):
            module.fused_attn = flag


def _identity(attention: Tensor) -> Tensor:
    tokens = attention.shape[-1]
    return torch.eye(tokens, device=attention.device, dtype=attention.dtype)[None]


def _over_patches(model: nn.Module, flow: Tensor, pixels: Tensor) -> NDArray[np.float32]:
    """What reaches the pooled output, by patch: the class token's row, or the patches' mean."""
    base = layers.network(model)
    prefix = layers.prefix_tokens(base) or 0
    by_class_token = getattr(base, "global_pool", "avg") == "token" and prefix > 0
    row = flow[:, 0] if by_class_token else flow[:, prefix:].mean(dim=1)
    patches = row[:, prefix:]
    size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
    rows, columns = layers.token_grid(patches.shape[1], size)
    shaped = patches.reshape(-1, rows, columns).detach().float().cpu().numpy()
    return finite(shaped, "the attention")
