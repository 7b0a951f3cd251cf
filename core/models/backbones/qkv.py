"""Query, key and value of a timm model as projections of their own, and back in one matrix.

timm computes the three with one fused matrix. An adapter on it would share its input side between
them and could not leave the key alone, so it is split where query or value are adapted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

KNOWN = ("timm.layers.attention", "timm.models.eva", "timm.models.swin_transformer")
"""Modules of timm whose attention lays query, key and value out one after the other."""


class SplitProjection(nn.Module):
    """The three parts of a fused ``qkv`` layer, in its place and with its output.

    Args:
        fused: A linear layer whose output is query, key and value side by side.
    """

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        self.q, self.k, self.v = _parts(fused.weight, _thirds(fused.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Query, key and value of x [..., D], side by side: [..., 3 × width]."""
        return torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)


def attentions(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The attention modules that can be split, with their names, whether they are or not."""
    for name, module in model.named_modules():
        if type(module).__module__ in KNOWN and hasattr(module, "proj"):
            yield name, module


def split(model: nn.Module) -> None:
    """Split every fused query-key-value projection in place; the outputs stay the same."""
    for _, module in attentions(model):
        fused = module.qkv
        if not isinstance(fused, nn.Linear):
            continue
        if not hasattr(module, "q_proj"):
            module.qkv = SplitProjection(fused)
            continue
        # EVA and its kin know separate projections; EVA keeps the biases beside the matrix.
        beside = hasattr(module, "q_bias")
        biases = (module.q_bias, None, module.v_bias) if beside else _thirds(fused.bias)
        module.q_proj, module.k_proj, module.v_proj = _parts(fused.weight, biases)
        module.qkv, module.was_fused = None, True
        if beside:
            module.q_bias = module.k_bias = module.v_bias = None


def fuse(model: nn.Module) -> None:
    """Undo ``split``: timm's own layout, with the weights as they are now."""
    for _, module in attentions(model):
        if isinstance(module.qkv, SplitProjection):
            module.qkv = _joined(module.qkv.q, module.qkv.k, module.qkv.v)
        elif getattr(module, "was_fused", False):
            parts = [module.q_proj, module.k_proj, module.v_proj]
            if hasattr(module, "q_bias"):
                module.q_bias, module.v_bias = module.q_proj.bias, module.v_proj.bias
                module.k_bias = None if module.q_bias is None else torch.zeros_like(module.q_bias)
                parts = [_linear(part.weight, None) for part in parts]
            module.qkv, module.was_fused = _joined(*parts), False
            module.q_proj = module.k_proj = module.v_proj = None


def projections(name: str, module: Any) -> dict[str, str]:
    """Names that ``q``, ``k``, ``v`` and ``proj`` of an attention module have after a split."""
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
    # Copies, because the parts of a chunk would keep the whole matrix in memory.
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer
