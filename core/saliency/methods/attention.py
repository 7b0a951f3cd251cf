"""Maps from the attention matrices of a transformer."""

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
from core.models.tuning.attentive import attentive_head
from core.saliency.methods import layers
from core.saliency.methods.layers import check_finite


def attention_rollout(model: nn.Module, pixels: Tensor) -> NDArray[np.float32]:
    """Attention rollout: the share of each patch in the pooled token, through all blocks.

    Abnar and Zuidema, “Quantifying Attention Flow in Transformers”, 2020: heads are averaged, the
    residual connection counts half, and the matrices of the blocks are multiplied. The map does
    not depend on the finding.

    Args:
        model: A ViT or EVA classifier.
        pixels: Network input of shape (batch, channels, height, width).

    Returns:
        Shares of shape (batch, rows, columns); those of one image sum to at most 1.

    Raises:
        ModelError: The network has no attention over patch tokens.
    """
    with (
        layers.FrozenWeights(model), recorded(model) as blocks, _pooled(model) as pools,
        torch.inference_mode(),
    ):  # fmt: skip
        layers.logits(model(pixels))
    rollout = _identity(blocks[0])
    for attention in blocks:
        # Half attention, half identity represents the residual connection, which the attention
        # matrix alone leaves out; rows still sum to 1.
        mixed = 0.5 * attention.mean(dim=1) + 0.5 * _identity(attention)
        rollout = mixed @ rollout
    return _patch_map(model, rollout, pixels, pools[0].mean(1) if pools else None)


def attention_relevance(model: nn.Module, pixels: Tensor, finding: int) -> NDArray[np.float32]:
    """Gradient-weighted attention, specific to the finding.

    Chefer, Gur and Wolf, “Generic Attention-model Explainability”, 2021, equations 5 and 6: the
    positive part of attention times its gradient, averaged over heads, is accumulated over the
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
    with (
        layers.FrozenWeights(model), recorded(model) as blocks, _pooled(model) as pools,
        torch.enable_grad(),
    ):  # fmt: skip
        # All weights are frozen, so that only an input that requires a gradient makes autograd
        # record the attention matrices.
        output = layers.logits(model(pixels.detach().requires_grad_(True)))
        gradients = torch.autograd.grad(output[:, finding].sum(), blocks)
    relevance = _identity(blocks[0])
    for attention, gradient in zip(blocks, gradients, strict=True):
        block = (attention * gradient).clamp_min(0).mean(dim=1).detach()
        relevance = relevance + block @ relevance
    # The identity that the sum starts from is each token's relevance to itself, not evidence.
    pool = pools[0][:, finding] if pools else None
    return _patch_map(model, relevance - _identity(blocks[0]), pixels, pool)


def attention_pooling(model: nn.Module, pixels: Tensor, finding: int) -> NDArray[np.float32]:
    """Attention of a finding's query over the tokens, in a model with an attentive head.

    Args:
        model: A classifier with an attentive head.
        pixels: Network input of shape (batch, channels, height, width).
        finding: Index of the output to explain.

    Returns:
        Shares of shape (batch, rows, columns); those of one image sum to 1.

    Raises:
        ModelError: The model has no attentive head.
    """
    if attentive_head(model) is None:
        raise ModelError(
            "Attention pooling needs an attentive head, which this run does not have.",
            "Choose another method, or train with --method attentive or --head attentive.",
        )
    with layers.FrozenWeights(model), _pooled(model) as pools, torch.inference_mode():
        layers.logits(model(pixels))
    return _grid(pools[0][:, finding], pixels)


@contextmanager
def _pooled(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the attention of an attentive head, (batch, findings, tokens), during a pass.

    The list stays empty if the model has another head.
    """
    head, pools = attentive_head(model), list[Tensor]()
    if head is None:
        yield pools
        return

    def record(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        pools.append(head.attention(inputs[0]).detach())

    hook = head.register_forward_pre_hook(record)
    try:
        yield pools
    finally:
        hook.remove()


@contextmanager
def recorded(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the attention matrix of each block, (batch, heads, tokens, tokens), during a pass.

    Fused attention never computes the matrix, so it is disabled for the time of the pass.

    Raises:
        ModelError: The network has no attention over patch tokens.
    """
    base = layers.network(model)
    modules: list[Any] = [module for module in base.modules() if hasattr(module, "fused_attn")]
    if layers.prefix_tokens(base) is None or not modules:
        raise ModelError(
            f"{type(base).__name__} has no attention over patch tokens.",
            "Choose a method for feature maps, such as grad-cam.",
        )
    if vpt.has_prompts(base):
        # Attention that passes through a prompt cannot be assigned to a patch.
        raise ModelError(
            "Visual prompts take part in the attention, and what passes through them belongs to no "
            "patch.",
            "Choose a method for feature maps, such as grad-cam.",
        )
    matrices: list[Tensor] = []
    fused = [module.fused_attn for module in modules]
    hooks = []
    try:
        for module in modules:
            module.fused_attn = False
            # The dropout behind the softmax is the only module that handles the matrix; in
            # evaluation mode it does not change it.
            hooks.append(
                module.attn_drop.register_forward_hook(lambda _, __, out: matrices.append(out))
            )
        yield matrices
    finally:
        for hook in hooks:
            hook.remove()
        for module, flag in zip(modules, fused, strict=True):
            module.fused_attn = flag


def _identity(attention: Tensor) -> Tensor:
    tokens = attention.shape[-1]
    return torch.eye(tokens, device=attention.device, dtype=attention.dtype)[None]


def _patch_map(
    model: nn.Module, token_map: Tensor, pixels: Tensor, pool: Tensor | None
) -> NDArray[np.float32]:
    """The share of each patch in the pooled output.

    Args:
        model: The classifier.
        token_map: Shape (batch, tokens, tokens).
        pixels: Its input.
        pool: Weights of the patch tokens in an attentive head, (batch, patches); without them the
            row of the class token or the mean row is used, as the model pools.
    """
    base = layers.network(model)
    prefix = layers.prefix_tokens(base) or 0
    by_class_token = getattr(base, "global_pool", "avg") == "token" and prefix > 0
    if pool is not None:
        row = (pool[:, None] @ token_map[:, prefix:])[:, 0]
    else:
        row = token_map[:, 0] if by_class_token else token_map[:, prefix:].mean(dim=1)
    return _grid(row[:, prefix:], pixels)


def _grid(patches: Tensor, pixels: Tensor) -> NDArray[np.float32]:
    """Values of the patches, (batch, patches), as maps of shape (batch, rows, columns)."""
    size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
    rows, columns = layers.token_grid(patches.shape[1], size)
    values = patches.reshape(-1, rows, columns).detach().float().cpu().numpy()
    return check_finite(values, "the attention")
