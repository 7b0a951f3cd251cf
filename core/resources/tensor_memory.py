"""Peak bytes of a model's tensors in a training step or a prediction, counted on the meta device.

Tensors on the meta device have shapes and types but no values, so that models of any size can be
counted without memory. Autocast and the fused attention kernels do not act on the meta device;
``_Precision`` reproduces what they keep.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

LOWERED: frozenset[Callable[..., Any]] = frozenset(
    {
        functional.linear, functional.conv2d, functional.scaled_dot_product_attention,
        torch.matmul, torch.bmm, torch.addmm, torch.baddbmm,
        Tensor.matmul, Tensor.__matmul__, Tensor.bmm, torch.native_dropout,
    }
)  # fmt: skip
"""Functions called by the backbones that run in half precision under autocast, by autocast itself
or as in ``ByteDropout``."""


@dataclass(frozen=True)
class Step:
    """Peak bytes of one training step, without weights and optimizer state.

    Attributes:
        forward: Peak until the loss is computed.
        backward: Peak after that, gradients included.
    """

    forward: int
    backward: int


def step(model: nn.Module, images: Tensor, half: torch.dtype | None, *, gpu: bool) -> Step:
    """Count the bytes of a training step.

    Args:
        model: A classifier on the meta device, in the mode in which it trains.
        images: Its input, on the meta device, of shape (studies, channels, side, side).
        half: Type of mixed precision; None for float32.
        gpu: Whether to count as on a GPU, where dropout keeps one byte per element.
    """
    live = _Live(model)
    with live, _Precision(half, gpu=gpu):
        live.add(images)
        loss = model(images).float().mean()
        forward, live.peak = live.peak, live.now
        _backward(loss)
        backward = live.peak
        model.zero_grad(set_to_none=True)
    return Step(forward, backward)


def prediction(model: nn.Module, images: Tensor, half: torch.dtype | None, *, gpu: bool) -> int:
    """Count the peak bytes of a forward pass without gradients; arguments as for ``step``."""
    live = _Live(model)
    with live, _Precision(half, gpu=gpu), torch.no_grad():
        live.add(images)
        model(images)
    return live.peak


def _backward(loss: Tensor) -> None:
    """Like ``loss.backward()``, but recomputed activations are counted too.

    Activation checkpointing runs forward passes inside the backward pass; ``loss.backward()``
    switches the dispatch modes off there.
    """
    engine: Any = torch.autograd.Variable._execution_engine
    gradient = (torch.ones_like(loss),)
    engine.run_backward(
        (loss,), gradient, False, False, (), allow_unreachable=True, accumulate_grad=True
    )


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the bytes of all live storages except the model's own.

    Storages are counted instead of tensors, because views share one storage.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        own = [*model.parameters(), *model.buffers()]
        self._known = {tensor.untyped_storage()._cdata for tensor in own}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                self.add(value)
        return result

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        # Python frees a storage as soon as nothing refers to it, as an allocator does with memory.
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class _Precision(TorchFunctionMode):
    """Applies the precision of autocast and the memory use of fused kernels on the meta device.

    Autocast ignores that device, and attention falls back to matrix products there, which would
    keep the whole attention matrix.
    """

    def __init__(self, half: torch.dtype | None, *, gpu: bool) -> None:
        super().__init__()
        self._half, self._gpu = half, gpu

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.__bool__:
            return False  # no values: conditions such as "is any value infinite" are taken as false
        if func in LOWERED and self._half is not None:
            args = tuple(self._lowered(value) for value in args)
        if func is functional.scaled_dot_product_attention and _can_be_fused(args, kwargs):
            return _FusedAttention.apply(*args)
        if func is functional.dropout and self._gpu and _drops(*args, **kwargs):
            return torch.native_dropout(args[0], 0.5, True)[0]
        return func(*args, **kwargs)

    def _lowered(self, value: Any) -> Any:
        full = isinstance(value, Tensor) and value.dtype == torch.float32
        return value.to(self._half) if full else value


def _can_be_fused(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    masked = kwargs.get("attn_mask") is not None or kwargs.get("dropout_p")
    return len(args) == 3 and not masked


def _drops(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> bool:
    return training and 0 < p < 1


class _FusedAttention(torch.autograd.Function):
    """Attention that saves what the fused kernels save: no matrix of tokens by tokens."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = torch.empty_like(query)
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        query, key, value, _, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
