"""Visual prompt tuning: trainable tokens between the patch tokens of a ViT or EVA.

Jia et al. 2022, “Visual Prompt Tuning” (arXiv 2203.12119). Prompts are inserted between the class
token and the patch tokens. Deep prompts are inserted before every block and removed after it;
shallow prompts are inserted before the first block and removed after the last. The pooling never
receives them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigurationError

NAME = "prompts"


def add_prompts(model: Any, count: int, *, deep: bool) -> set[str]:
    """Add prompts to a model, in place.

    Args:
        model: A ViT or EVA classifier of timm.
        count: Number of prompt tokens.
        deep: Whether every block has its own prompts.

    Returns:
        The names of the added parameters.

    Raises:
        ConfigurationError: The model is not a transformer with patch tokens.
    """
    blocks = _blocks(model)
    prefix, width = model.num_prefix_tokens, model.embed_dim
    bound = math.sqrt(6 / (3 * math.prod(model.patch_embed.patch_size) + width))
    for i, block in enumerate(blocks):
        first, last = deep or i == 0, deep or i == len(blocks) - 1
        block.prompts_inside, block.prompts_after = count, 0 if last else count
        block.tokens_before = prefix
        if hasattr(block.attn, "num_prefix_tokens"):
            block.attn.num_prefix_tokens += count  # tokens without a rotary position embedding
        if first:
            initial = torch.empty(count, width).uniform_(-bound, bound)
            block.register_parameter(NAME, nn.Parameter(initial))
            block.register_forward_pre_hook(_insert)
        if last:
            block.register_forward_hook(_remove)
    return {f"blocks.{i}.{NAME}" for i in (range(len(blocks)) if deep else (0,))}


def has_prompts(model: nn.Module) -> bool:
    """Whether a model has prompts."""
    return any(hasattr(module, "prompts_inside") for module in model.modules())


def prompts_before_patches(model: nn.Module, layer: str) -> int:
    """Number of prompt tokens before the patch tokens in a layer's output."""
    parts = layer.split(".")
    if parts[0] != "blocks" or len(parts) < 2:
        return 0
    block = model.get_submodule(".".join(parts[:2]))
    return int(getattr(block, "prompts_inside" if len(parts) > 2 else "prompts_after", 0))


def _blocks(model: Any) -> list[Any]:
    blocks = list(getattr(model, "blocks", ()))
    tokens = isinstance(getattr(model, "num_prefix_tokens", None), int)
    if not blocks or not tokens or not all(hasattr(block, "attn") for block in blocks):
        raise ConfigurationError(
            f"Visual prompts cannot tune a {type(model).__name__}: they are added to the patch "
            "tokens of a ViT or EVA, which it does not have.",
            "Choose the method lora, ssf or last-k, or a vision transformer.",
            field="adapter.method",
        )
    return blocks


def _insert(block: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    tokens, *rest = arguments
    prompts: Tensor = getattr(block, NAME).to(tokens.dtype).expand(tokens.shape[0], -1, -1)
    start = block.tokens_before
    return (torch.cat([tokens[:, :start], prompts, tokens[:, start:]], dim=1), *rest)


def _remove(block: Any, _: tuple[Any, ...], tokens: Tensor) -> Tensor:
    start, count = block.tokens_before, block.prompts_inside
    return torch.cat([tokens[:, :start], tokens[:, start + count :]], dim=1)
