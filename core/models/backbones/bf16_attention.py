"""Attention in bf16 on a processor, where the fused kernel is slow on the way back.

Short attention is spelt out. From ``CHUNKED_FROM`` patches on, it is taken a few pictures at a
time, and its probabilities are computed again on the way back: nothing keeps a square of the
tokens, and a chunk stays in the processor's cache. The idea is FlashAttention's (Dao et al. 2022).
With ViT-B at 224 px in batches of 64, on two cores, a step with LoRA so takes 0.95 of the time and
6.0 in place of 7.2 GB; what comes out is the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

CHUNKED_FROM = 128
"""Patches from which on the probabilities are worth computing twice."""

SPELT_OUT_TO, CHUNKED_TO = 320, 600
"""Patches from which on the fused kernel is no slower, or takes much less memory."""

VALUES = 2_000_000
"""Probabilities of a chunk: 4 MB in bf16."""

PLAIN = ("timm.layers.attention", "timm.models.eva")
"""Modules of timm whose attention has no bias that learns, as that of Swin's windows does."""


def install(model: nn.Module, patches: int = 0) -> None:
    """Take attention in products from now on, where the fused kernel is slow.

    It took 31% to 46% of a step, as much as bf16 had won.

    Args:
        model: A timm model, or one made of its parts; it is changed. It runs under autocast.
        patches: Patches of its input; 0 where it has none, or few.
    """
    for module in model.modules():
        if not hasattr(module, "fused_attn"):
            continue
        if patches >= CHUNKED_FROM and type(module).__module__ in PLAIN:
            if patches <= CHUNKED_TO:
                module.forward = MethodType(_in_chunks, module)
        elif patches <= SPELT_OUT_TO:
            module.fused_attn = False  # type: ignore[assignment]


def patches(model: nn.Module) -> int:
    """Patches that a model cuts its input into; 0 where it does not."""
    return int(getattr(getattr(model, "patch_embed", None), "num_patches", 0))


def chunked(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention.

    Args:
        query: Of shape (studies, heads, tokens, width).
        key: Likewise.
        value: Likewise.

    Returns:
        The same shape.
    """
    found: Tensor = _Chunked.apply(query, key, value)
    return found


def _in_chunks(module: nn.Module, *args: Any, **more: Any) -> Any:
    with _Instead():
        return type(module).forward(module, *args, **more)


class _Instead(TorchFunctionMode):
    """Answers a call for the fused attention, where nothing is masked or dropped."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention and _plain(**kwargs):
            return chunked(*_lowered(args))
        return func(*args, **kwargs)


def _plain(attn_mask: Tensor | None = None, **more: float | bool | None) -> bool:
    """Whether nothing is asked for but the products: no mask, no dropout, no other scale."""
    return attn_mask is None and not any(more.values())


def _lowered(tensors: tuple[Tensor, ...]) -> Iterator[Tensor]:
    """In the type that autocast would multiply them in."""
    kind = tensors[0].device.type
    mixed = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    lower = torch.get_autocast_dtype(kind) if mixed else None
    return (one if lower is None else one.to(lower) for one in tensors)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(query, key, value)
        found = _like(query)
        for part in _parts(query):
            found[part] = _probabilities(query[part], key[part]) @ value[part]
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = ctx.saved_tensors
        to_query, to_key, to_value = (_like(one) for one in (query, key, value))
        scale = _scale(query)
        for part in _parts(query):
            given, shares = gradient[part], _probabilities(query[part], key[part])
            to_value[part] = shares.transpose(-2, -1) @ given
            to_shares = given @ value[part].transpose(-2, -1)
            to_logits = torch._softmax_backward_data(to_shares, shares, -1, shares.dtype)
            to_query[part] = (to_logits @ key[part]).mul_(scale)
            to_key[part] = to_logits.transpose(-2, -1) @ (query[part] * scale)
        return to_query, to_key, to_value


def _probabilities(query: Tensor, key: Tensor) -> Tensor:
    return ((query * _scale(query)) @ key.transpose(-2, -1)).softmax(-1)


def _scale(query: Tensor) -> float:
    width: int = query.shape[-1]
    return float(width**-0.5)


def _parts(query: Tensor) -> Iterator[slice]:
    """Slices of the studies, as many at once as a chunk takes."""
    studies, heads, tokens, _ = query.shape
    count = max(1, VALUES // (heads * tokens**2))
    return (slice(start, start + count) for start in range(0, studies, count))


def _like(tensor: Tensor) -> Tensor:
    """An empty tensor whose heads lie side by side, as the layer behind wants them."""
    studies, heads, tokens, width = tensor.shape
    return tensor.new_empty(studies, tokens, heads, width).transpose(1, 2)
