"""Bytes that a model holds while it runs, counted on the meta device, without any of them."""

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
"""What is computed in half precision under autocast, of the functions that the backbones call: by
itself, or as in ``ByteDropout``."""


@dataclass(frozen=True)
class Step:
    """Bytes of one training step, beside weights and the optimizer's state.

    Attributes:
        forward: The most that lives until the loss is there.
        backward: The most that lives after that, gradients among it.
    """

    forward: int
    backward: int


def step(model: nn.Module, pictures: Tensor, half: torch.dtype | None, *, gpu: bool) -> Step:
    """Count what a step of training holds.

    Args:
        model: A classifier on the meta device, in the mode it trains in.
        pictures: Its input, on the meta device, of shape (studies, channels, side, side).
        half: The type of mixed precision; None for none.
        gpu: Whether a GPU is meant, where dropout keeps a mask of bytes.
    """
    live = _Live(model)
    with live, _Precision(half, gpu=gpu):
        live.add(pictures)
        loss = model(pictures).float().mean()
        forward, live.peak = live.peak, live.now
        _back(loss)
        most = live.peak
        model.zero_grad(set_to_none=True)
    return Step(forward, most)


def prediction(model: nn.Module, pictures: Tensor, half: torch.dtype | None, *, gpu: bool) -> int:
    """Count what a forward pass without gradients holds at most; arguments as for ``step``."""
    live = _Live(model)
    with live, _Precision(half, gpu=gpu), torch.no_grad():
        live.add(pictures)
        model(pictures)
    return live.peak


def _back(loss: Tensor) -> None:
    """``loss.backward()``, which would leave the modes for what is computed again on the way."""
    engine: Any = torch.autograd.Variable._execution_engine
    gradient = (torch.ones_like(loss),)
    engine.run_backward(
        (loss,), gradient, False, False, (), allow_unreachable=True, accumulate_grad=True
    )


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that are alive, all but the model's own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        own = [*model.parameters(), *model.buffers()]
        self._known = {one.untyped_storage()._cdata for one in own}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else (found,):
            if isinstance(one, Tensor):
                self.add(one)
        return found

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class _Precision(TorchFunctionMode):
    """Does to tensors on the meta device what autocast and the fused kernels do elsewhere.

    Autocast passes that device by, and attention is spelt out on it.
    """

    def __init__(self, half: torch.dtype | None, *, gpu: bool) -> None:
        super().__init__()
        self._half, self._gpu = half, gpu

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.__bool__:
            return False  # there are no values to ask, such as whether one is infinite
        if func in LOWERED and self._half is not None:
            args = tuple(self._lowered(one) for one in args)
        if func is functional.scaled_dot_product_attention and _can_be_fused(args, kwargs):
            return _FusedAttention.apply(*args)
        if func is functional.dropout and self._gpu and _drops(*args, **kwargs):
            return torch.native_dropout(args[0], 0.5, True)[0]
        return func(*args, **kwargs)

    def _lowered(self, value: Any) -> Any:
        whole = isinstance(value, Tensor) and value.dtype == torch.float32
        return value.to(self._half) if whole else value


def _can_be_fused(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    masked = kwargs.get("attn_mask") is not None or kwargs.get("dropout_p")
    return len(args) == 3 and not masked


def _drops(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> bool:
    return training and 0 < p < 1


class _FusedAttention(torch.autograd.Function):
    """Keeps for the gradients what the fused kernels keep: no square of the tokens."""

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
