"""The frozen part of a model, whose output has to be computed only once a study."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.config.run import AdapterSpec
from core.models.backbones import blocks, head
from core.models.backbones.build import network
from core.models.backbones.card import BackboneCard
from core.models.tuning import vpt
from core.models.tuning.apply import apply_method

Half = Callable[[Tensor], Tensor]

ROWS = 2
"""Pictures a model is tried with. The halves are compared on one more, so that nothing of theirs
depends on the number."""

WORTH = 0.25
"""Share of the blocks that must be frozen for their output to be kept: it is a hundred times what
the picture takes."""

ALIKE = 1e-4
"""Largest difference between the halves and the whole, as a share of the largest logit."""


@dataclass(frozen=True)
class Cut:
    """A model in two halves, whose composition it is.

    Attributes:
        before: Pixels [B, C, S, S] → activations, without anything that trains.
        after: Activations → logits [B, findings].
        shape: Of one picture's activations: tokens [N, D] before a block, or features [D] before
            the classifier.
        block: The first block of ``after``; None if that is the classifier alone.
        frozen: Names of the weights and buffers that ``before`` may read.
    """

    before: Half
    after: Half
    shape: tuple[int, ...]
    block: int | None
    frozen: frozenset[str]


def frozen_blocks(model: nn.Module) -> tuple[int, int]:
    """Blocks before the first one with anything that trains, and blocks in all.

    The first number is -1 where the stem trains, and the second where only the classifier does.

    Args:
        model: A timm classifier whose ``requires_grad`` flags say what trains.
    """
    numbers, total = blocks.of_parameters(model), blocks.count(model)
    heads = tuple(f"{name}." for name in head.names(model))
    trained = [
        numbers.get(name, blocks.STEM)
        for name, one in model.named_parameters()
        if one.requires_grad and not name.startswith(heads)
    ]
    return min(trained, default=total), total


@lru_cache(maxsize=256)
def frozen_share(card: BackboneCard, spec: AdapterSpec, size: int) -> float:
    """Share of a transformer's blocks before the first that trains, 0 to 1; 0 of other networks.

    Args:
        card: The backbone.
        spec: How it is tuned.
        size: Side of its input in pixels.
    """
    with torch.device("meta"):
        model = apply_method(network(card, 1, size), spec)
    frozen, total = frozen_blocks(model)
    return max(frozen, 0) / total if total > 0 and hasattr(model, "num_prefix_tokens") else 0.0


def draws(model: nn.Module, block: int) -> bool:
    """Whether anything before a block is random in training: dropout, or stochastic depth.

    Args:
        model: A model with a list ``blocks``.
        block: Its number.
    """
    behind = {id(one) for later in list(model.blocks)[block:] for one in later.modules()}  # type: ignore[arg-type]
    return any(id(one) not in behind and _rate(one) > 0 for one in model.modules())


def cut(
    model: nn.Module,
    size: int,
    channels: int,
    autocast: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Cut | None:
    """Cut a classifier before the first part that trains.

    Autograd says where that is, and the halves are tried against the whole: of an architecture
    whose parts do not simply follow one another nothing is cut.

    Args:
        model: A timm classifier whose ``requires_grad`` flags say what trains.
        size: Side of its input in pixels.
        channels: Channels of its input.
        autocast: Makes the context in which both halves will run.

    Returns:
        The halves, which equal the model in evaluation mode up to rounding; ``after`` has the
        model's own mode. None if there is no frozen part, or no such seam.
    """
    first, total = frozen_blocks(model)
    if first < min(1, total) or vpt.has(model):
        return None
    training = model.training
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(ROWS + 1, channels, size, size, generator=generator)
    pictures = pictures.to(next(model.parameters()).device)
    try:
        model.eval()
        with autocast():
            found = _at_head(model, pictures[:ROWS]) or _at_block(model, pictures[:ROWS])
            return found if found is not None and _agrees(model, found, pictures) else None
    finally:
        model.train(training)


class _Reached(Exception):  # noqa: N818 - it only ends a forward pass early
    """The input of a module, at which a forward pass is ended."""

    def __init__(self, value: Any, given: dict[str, Any]) -> None:
        self.value, self.given = value, given


def _until(model: nn.Module, module: nn.Module, pixels: Tensor) -> _Reached | None:
    """Run a model up to a module, once; None if it does not come by there."""

    def end(_: nn.Module, positional: tuple[Any, ...], given: dict[str, Any]) -> None:
        raise _Reached(positional[0] if positional else None, given)

    hook = module.register_forward_pre_hook(end, with_kwargs=True)
    try:
        model(pixels)
    except _Reached as reached:
        return reached
    finally:
        hook.remove()
    return None


def _before(model: nn.Module, module: nn.Module) -> Half:
    def run(pixels: Tensor) -> Tensor:
        reached = _until(model, module, pixels)
        assert reached is not None
        value: Tensor = reached.value
        return value

    return run


def _at_head(model: Any, pixels: Tensor) -> Cut | None:
    parts = head.parts(model)
    if not all(isinstance(one, nn.Module) for one in parts):
        return None
    reached = _until(model, parts[0], pixels)
    if reached is None or not _constant(reached.value, dimensions=2):
        return None

    def after(features: Tensor) -> Tensor:
        for part in parts:
            features = part(features)
        return features

    own = tuple(f"{name}." for name in head.names(model))
    frozen = frozenset(name for name in model.state_dict() if not name.startswith(own))
    return Cut(_before(model, parts[0]), after, tuple(reached.value.shape[1:]), None, frozen)


def _at_block(model: Any, pixels: Tensor) -> Cut | None:
    each, first = list(getattr(model, "blocks", ())), frozen_blocks(model)[0]
    if not first < len(each):
        return None
    reached = _until(model, each[first], pixels)
    if reached is None or not _constant(reached.value, dimensions=3):
        return None
    given: list[dict[str, Any]] = []
    with _noting(each[first:], given):
        model(pixels)
    if any(isinstance(v, Tensor) and v.requires_grad for one in given for v in one.values()):
        return None
    later = list(zip(each[first:], given, strict=True)) if len(given) == len(each) - first else []

    def after(tokens: Tensor) -> Tensor:
        again = model.training and torch.is_grad_enabled() and model.grad_checkpointing
        for block, beside in later:
            if again:
                tokens = checkpoint(block, tokens, use_reentrant=False, **beside)
            else:
                tokens = block(tokens, **beside)
        logits: Tensor = model.forward_head(model.norm(tokens))
        return logits

    behind = tuple(f"blocks.{number}." for number in range(first, len(each)))
    trains = {name for name, one in model.named_parameters() if one.requires_grad}
    frozen = frozenset(
        name for name in model.state_dict() if not name.startswith(behind) and name not in trains
    )
    shape = tuple(reached.value.shape[1:])
    return Cut(_before(model, each[first]), after, shape, first, frozen) if later else None


@contextlib.contextmanager
def _noting(modules: list[nn.Module], given: list[dict[str, Any]]) -> Iterator[None]:
    """Note what each of some modules is given beside its input, such as rotary positions."""

    def note(_: nn.Module, __: tuple[Any, ...], beside: dict[str, Any]) -> None:
        given.append(beside)

    hooks = [one.register_forward_pre_hook(note, with_kwargs=True) for one in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _constant(value: Any, dimensions: int) -> bool:
    return isinstance(value, Tensor) and value.ndim == dimensions and not value.requires_grad


def _agrees(model: nn.Module, halves: Cut, pixels: Tensor) -> bool:
    with torch.inference_mode():
        whole = model(pixels)
        try:
            parts = halves.after(halves.before(pixels))
        except (AttributeError, TypeError, RuntimeError):  # the parts follow one another otherwise
            return False
    if whole.shape != parts.shape:
        return False
    return bool((whole - parts).abs().max() <= ALIKE * whole.abs().max())


def _rate(module: nn.Module) -> float:
    """The rate at which a module drops something; 0 for any other module."""
    if "drop" not in type(module).__name__.lower():
        return 0.0
    rates = (getattr(module, name, 0.0) for name in ("p", "drop_prob", "prob"))
    return max((float(one) for one in rates if isinstance(one, int | float)), default=0.0)
