"""Splitting timm's fused query-key-value projection into three layers, and fusing it again.

timm computes query, key and value with one fused matrix. An adapter on this matrix would share its
input side between the three and could not leave the key unchanged. The matrix is therefore split
where query or value are adapted.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from core.models.backbones.model_map import ModelMap


class SplitProjection(nn.Module):
    """Three linear layers that replace a fused ``qkv`` layer and give the same output.

    Args:
        fused: A linear layer whose output is the concatenation of query, key and value.
    """

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        self.q, self.k, self.v = _parts(fused.weight, _thirds(fused.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Concatenated query, key and value [..., 3 × width] of x [..., D]."""
        return torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)


def split(parts: ModelMap) -> None:
    """Split every fused query-key-value projection of a model in place; outputs stay the same."""
    for module in parts.attentions.values():
        fused = module.qkv
        if not isinstance(fused, nn.Linear):
            continue
        if not hasattr(module, "q_proj"):
            module.qkv = SplitProjection(fused)
            continue
        # EVA and related models support separate projections. In timm's EVA the biases are
        # parameters of the attention module, not of the fused layer.
        own_biases = hasattr(module, "q_bias")
        biases = (module.q_bias, None, module.v_bias) if own_biases else _thirds(fused.bias)
        module.q_proj, module.k_proj, module.v_proj = _parts(fused.weight, biases)
        module.qkv, module.was_fused = None, True
        if own_biases:
            module.q_bias = module.k_bias = module.v_bias = None


def fuse(parts: ModelMap) -> None:
    """Undo ``split``: restore timm's layout with the current weights, in place."""
    for module in parts.attentions.values():
        if isinstance(module.qkv, SplitProjection):
            module.qkv = _joined(module.qkv.q, module.qkv.k, module.qkv.v)
        elif getattr(module, "was_fused", False):
            layers = [module.q_proj, module.k_proj, module.v_proj]
            if hasattr(module, "q_bias"):
                module.q_bias, module.v_bias = module.q_proj.bias, module.v_proj.bias
                module.k_bias = None if module.q_bias is None else torch.zeros_like(module.q_bias)
                layers = [_linear(layer.weight, None) for layer in layers]
            module.qkv, module.was_fused = _joined(*layers), False
            module.q_proj = module.k_proj = module.v_proj = None


def projections(name: str, module: Any) -> dict[str, str]:
    """Names of ``q``, ``k``, ``v`` and ``proj`` of an attention module after ``split``."""
    pattern = f"{name}.{{}}_proj" if hasattr(module, "q_proj") else f"{name}.qkv.{{}}"
    return {part: pattern.format(part) for part in "qkv"} | {"proj": f"{name}.proj"}


def _parts(weight: Tensor, biases: tuple[Tensor | None, ...]) -> list[nn.Linear]:
    return [_linear(part, bias) for part, bias in zip(weight.chunk(3), biases, strict=True)]


def _thirds(bias: Tensor | None) -> tuple[Tensor | None, ...]:
    return (None, None, None) if bias is None else tuple(bias.chunk(3))


def _joined(q: nn.Linear, k: nn.Linear, v: nn.Linear) -> nn.Linear:
    biases: list[Tensor] = [part.bias for part in (q, k, v) if part.bias is not None]
    return _linear(torch.cat([q.weight, k.weight, v.weight]), torch.cat(biases) if biases else None)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    rows, columns = weight.shape
    layer = nn.Linear(columns, rows, bias=bias is not None, device="meta")
    # Copied, because views of a chunk would keep the whole matrix in memory.
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer
