"""A map of a timm classifier: its attention, MLP, normalisation and classifier modules by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

SPLITTABLE = ("timm.layers.attention", "timm.models.eva", "timm.models.swin_transformer")
"""Modules of timm whose attention concatenates query, key and value in this order."""

STEM = -1
"""Number of what lies before the first block."""

_MLP = ("fc1", "fc1_g", "fc1_x", "fc2")


@dataclass(frozen=True, eq=False, repr=False)
class ModelMap:
    """The parts of a timm classifier by their names in it; made by ``map_model``.

    A map made before ``qkv.split`` or before an adapter is added describes the model as it was;
    ``attentions``, ``classifier`` and ``block_of`` stay correct afterwards.

    Attributes:
        model: The classifier.
        modules: Every module.
        classifier: ``fc_norm``, where there is one, and the linear classifier: the parts that
            every method trains.
        attentions: Attention modules whose query, key and value can be adapted separately,
            whether they are fused or already split.
        layers: Linear layers, and convolutions that are not depthwise.
        mlp_layers: Names of the MLP layers of the blocks; 1 × 1 convolutions, as in ConvNeXt,
            count as linear layers.
        norms: Normalisation layers.
        adapted_layers: Layers that peft has wrapped with an adapter.
        block_numbers: The block of each parameter (see ``block_numbers``).
    """

    model: nn.Module
    modules: dict[str, nn.Module]
    classifier: dict[str, nn.Module]
    attentions: dict[str, Any]
    layers: dict[str, nn.Linear | nn.Conv2d]
    mlp_layers: tuple[str, ...]
    norms: dict[str, nn.Module]
    adapted_layers: dict[str, Any]
    block_numbers: dict[str, int]

    @property
    def block_count(self) -> int:
        """Number of blocks; 0 if timm does not order them."""
        return max((0, *self.block_numbers.values()))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """The block of each parameter, and of each module the block of its first parameter."""
        numbers: dict[str, int] = {}
        for name, number in self.block_numbers.items():
            while name and name not in numbers:
                numbers[name] = number
                name = name.rpartition(".")[0]
        return numbers

    def block_of(self, name: str) -> int | None:
        """The block of a module or parameter, which may have been added after the map was made."""
        while name:
            if name in self._numbers:
                return self._numbers[name]
            name = name.rpartition(".")[0]
        return None

    def in_stem(self, layer: str) -> bool:
        """Whether a layer is the patch embedding, or lies before the first block."""
        return "patch_embed" in layer or (self.block_of(layer) == STEM and self.block_count > 0)

    def in_classifier(self, layer: str) -> bool:
        """Whether a layer belongs to the classifier."""
        return any(layer == name or layer.startswith(f"{name}.") for name in self.classifier)

    def block_convolutions(self) -> list[str]:
        """Names of the convolutions in the blocks, depthwise ones excluded."""
        inside = range(self.block_count)
        return [
            name
            for name, layer in self.layers.items()
            if isinstance(layer, nn.Conv2d) and self.block_numbers[f"{name}.weight"] in inside
        ]


def map_model(model: nn.Module) -> ModelMap:
    """Map a timm classifier, with or without adapters, in one pass over its modules."""
    modules = dict(model.named_modules())
    classifier = {id(module) for module in classifier_modules(model)}
    heads = {name: module for name, module in modules.items() if id(module) in classifier}
    return ModelMap(
        model=model,
        modules=modules,
        classifier=heads,
        attentions={
            name: module
            for name, module in modules.items()
            if type(module).__module__ in SPLITTABLE and hasattr(module, "proj")
        },
        layers={name: module for name, module in modules.items() if is_dense(module)},
        mlp_layers=tuple(
            f"{name}.{layer}"
            for name, module in modules.items()
            if name not in heads
            for layer in _mlp_layers(module)
        ),
        norms={name: module for name, module in modules.items() if is_norm(module)},
        adapted_layers={
            name: module for name, module in modules.items() if hasattr(module, "base_layer")
        },
        block_numbers=block_numbers(model),
    )


def block_numbers(model: nn.Module) -> dict[str, int]:
    """The block of each parameter, by the parameter's name.

    Blocks are numbered from 0 in timm's order: transformer blocks, or the blocks of all stages of
    a convolutional network one after another. The stem (patch embedding, position embedding, class
    token) has the number ``STEM``; what follows the last block has its number plus one. If timm
    does not order the blocks of a model, all of it is stem.
    """
    from timm.models import group_parameters

    if not hasattr(model, "group_matcher"):
        return {name: STEM for name, _ in model.named_parameters()}
    matcher = model.group_matcher(coarse=False)  # type: ignore[operator]
    ids: dict[str, int] = group_parameters(model, matcher, reverse=True)
    return {name: number - 1 for name, number in ids.items()}


def classifier_modules(model: nn.Module) -> list[nn.Module]:
    """``fc_norm``, where there is one, and the linear classifier, in the order they are applied."""
    norm = getattr(model, "fc_norm", None)
    head = model.get_classifier()  # type: ignore[operator]
    return [module for module in (norm, head) if module is not None]


def is_dense(module: nn.Module) -> bool:
    """Whether a module is a linear layer or a convolution that is not depthwise."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def is_pointwise(module: Any) -> bool:
    """Whether a module is a linear layer or a 1 × 1 convolution."""
    return is_dense(module) and getattr(module, "kernel_size", (1, 1)) == (1, 1)


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalisation layer."""
    return "Norm" in type(module).__name__


def _mlp_layers(module: Any) -> Iterator[str]:
    if hasattr(module, "fc2") and (hasattr(module, "fc1") or hasattr(module, "fc1_g")):
        for name in _MLP:
            if is_pointwise(getattr(module, name, None)):
                yield name
