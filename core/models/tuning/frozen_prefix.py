"""The frozen prefix of a model: its first blocks, whose output can be computed once per image."""

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
from core.models.backbones.build import network
from core.models.backbones.card import BackboneCard
from core.models.backbones.model_map import STEM, ModelMap, classifier_modules, map_model
from core.models.tuning.apply import apply_method
from core.models.tuning.attentive import attentive_head
from core.models.tuning.vpt import has_prompts

Half = Callable[[Tensor], Tensor]

BATCH = 2
"""Images with which a model is cut. The halves are compared on one image more, so that they cannot
depend on the batch size."""

WORTH = 0.25
"""Share of the blocks that must be frozen for their output to be cached: the output takes a hundred
times the space of the image."""

TOLERANCE = 1e-4
"""Largest difference between the two halves and the model, as a share of the largest logit."""


@dataclass(frozen=True)
class Cut:
    """A model cut into two halves whose composition equals the model.

    Attributes:
        before: Pixels [B, C, S, S] → activations; nothing in it trains.
        after: Activations → logits [B, findings].
        shape: Shape of one image's activations: tokens [N, D] before a block or an attentive
            head, or features [D] before any other classifier.
        block: The first block of ``after``; None if ``after`` is only the classifier.
        frozen: Names of the weights and buffers that ``before`` may read.
    """

    before: Half
    after: Half
    shape: tuple[int, ...]
    block: int | None
    frozen: frozenset[str]


def frozen_blocks(model: nn.Module) -> tuple[int, int]:
    """Number of blocks before the first block that trains, and number of all blocks.

    The first number is -1 if the stem trains, and equals the second if only the classifier trains.

    Args:
        model: A timm classifier whose ``requires_grad`` flags say what trains.
    """
    return _frozen_blocks(map_model(model))


def _frozen_blocks(parts: ModelMap) -> tuple[int, int]:
    trained = [
        parts.block_numbers.get(name, STEM)
        for name, parameter in parts.model.named_parameters()
        if parameter.requires_grad and not parts.in_classifier(name)
    ]
    return min(trained, default=parts.block_count), parts.block_count


@lru_cache(maxsize=256)
def frozen_share(card: BackboneCard, spec: AdapterSpec, size: int) -> float:
    """Share of a transformer's blocks before the first that trains, 0 to 1; 0 for other networks.

    Args:
        card: The backbone.
        spec: The method and its settings.
        size: Side of the input in pixels.
    """
    with torch.device("meta"):
        model = apply_method(network(card, 1, size), spec)
    frozen, total = frozen_blocks(model)
    return max(frozen, 0) / total if total > 0 and hasattr(model, "num_prefix_tokens") else 0.0


def draws(model: nn.Module, block: int) -> bool:
    """Whether anything before a block is random in training: dropout or stochastic depth."""
    following = {id(module) for later in list(model.blocks)[block:] for module in later.modules()}  # type: ignore[arg-type]
    return any(id(module) not in following and _drop_rate(module) > 0 for module in model.modules())


def cut(
    model: nn.Module,
    size: int,
    channels: int,
    autocast: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Cut | None:
    """Cut a classifier before the first block that trains.

    Autograd confirms that nothing before the cut trains, and the halves are compared with the
    model. An architecture whose blocks do not simply follow one another is not cut.

    Args:
        model: A timm classifier whose ``requires_grad`` flags say what trains.
        size: Side of its input in pixels.
        channels: Number of its input channels.
        autocast: Makes the context in which both halves will run.

    Returns:
        The halves, which equal the model in evaluation mode up to rounding; ``after`` follows the
        model's mode. None if there is no frozen prefix, or the model cannot be cut after it.
    """
    parts = map_model(model)
    first, total = _frozen_blocks(parts)
    if first < min(1, total) or has_prompts(model):
        return None
    training = model.training
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH + 1, channels, size, size, generator=generator)
    images = images.to(next(model.parameters()).device)
    try:
        model.eval()
        with autocast():
            halves = _at_classifier(parts, images[:BATCH]) or _at_block(
                model, first, images[:BATCH]
            )
            return halves if halves is not None and _agrees(model, halves, images) else None
    finally:
        model.train(training)


class _Reached(Exception):  # noqa: N818 - it only ends a forward pass early
    """Ends a forward pass at a module, with the module's input."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _until(model: nn.Module, module: nn.Module, pixels: Tensor) -> _Reached | None:
    """Run a model up to a module; None if the forward pass does not call the module."""

    def end(_: nn.Module, positional: tuple[Any, ...], __: dict[str, Any]) -> None:
        raise _Reached(positional[0] if positional else None)

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


def _at_classifier(parts: ModelMap, pixels: Tensor) -> Cut | None:
    """Cut a model before ``fc_norm`` or the head, if only these train."""
    model, classifier = parts.model, classifier_modules(parts.model)
    reached = _until(model, classifier[0], pixels)
    dimensions = 2 if attentive_head(model) is None else 3
    if reached is None or not _is_constant(reached.value, dimensions):
        return None

    def after(features: Tensor) -> Tensor:
        for module in classifier:
            features = module(features)
        return features

    frozen = frozenset(name for name in model.state_dict() if not parts.in_classifier(name))
    shape = tuple(reached.value.shape[1:])
    return Cut(_before(model, classifier[0]), after, shape, None, frozen)


def _at_block(model: Any, first: int, pixels: Tensor) -> Cut | None:
    """Cut a model before a block."""
    blocks = list(getattr(model, "blocks", ()))
    if not first < len(blocks):
        return None
    reached = _until(model, blocks[first], pixels)
    if reached is None or not _is_constant(reached.value, dimensions=3):
        return None
    recorded: list[dict[str, Any]] = []
    with _recording_arguments(blocks[first:], recorded):
        model(pixels)
    values = [value for arguments in recorded for value in arguments.values()]
    if any(isinstance(value, Tensor) and value.requires_grad for value in values):
        return None
    if not recorded or len(recorded) != len(blocks) - first:
        return None
    later = list(zip(blocks[first:], recorded, strict=True))

    def after(tokens: Tensor) -> Tensor:
        recompute = model.training and torch.is_grad_enabled() and model.grad_checkpointing
        for block, arguments in later:
            if recompute:
                tokens = checkpoint(block, tokens, use_reentrant=False, **arguments)
            else:
                tokens = block(tokens, **arguments)
        logits: Tensor = model.forward_head(model.norm(tokens))
        return logits

    following = tuple(f"blocks.{number}." for number in range(first, len(blocks)))
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    frozen = frozenset(
        name for name in model.state_dict() if not name.startswith(following) and name not in trains
    )
    shape = tuple(reached.value.shape[1:])
    return Cut(_before(model, blocks[first]), after, shape, first, frozen)


@contextlib.contextmanager
def _recording_arguments(
    modules: list[nn.Module], recorded: list[dict[str, Any]]
) -> Iterator[None]:
    """Record the keyword arguments of each module's call, such as rotary positions."""

    def record(_: nn.Module, __: tuple[Any, ...], arguments: dict[str, Any]) -> None:
        recorded.append(arguments)

    hooks = [module.register_forward_pre_hook(record, with_kwargs=True) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_constant(value: Any, dimensions: int) -> bool:
    return isinstance(value, Tensor) and value.ndim == dimensions and not value.requires_grad


def _agrees(model: nn.Module, halves: Cut, pixels: Tensor) -> bool:
    with torch.inference_mode():
        whole = model(pixels)
        try:
            parts = halves.after(halves.before(pixels))
        except (AttributeError, TypeError, RuntimeError):  # the model connects its blocks otherwise
            return False
    if whole.shape != parts.shape:
        return False
    return bool((whole - parts).abs().max() <= TOLERANCE * whole.abs().max())


def _drop_rate(module: nn.Module) -> float:
    """The rate of a dropout or stochastic-depth module; 0 for any other module."""
    if "drop" not in type(module).__name__.lower():
        return 0.0
    rates = (getattr(module, name, 0.0) for name in ("p", "drop_prob", "prob"))
    return max((float(rate) for rate in rates if isinstance(rate, int | float)), default=0.0)
