"""Scaling and shifting features (SSF): a factor and an offset for each output of every layer.

Lian et al. 2022 (arXiv 2210.08823). Implemented as parametrisations of the layers' weights and
biases, which compute the same and can be merged exactly. A layer without a bias is only scaled, so
that it stays a layer without a bias.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from core.models.backbones import qkv
from core.models.backbones.model_map import ModelMap, is_norm


class Scale(nn.Module):
    """Multiplies a weight [outputs, …] by a factor for each output."""

    def __init__(self, scale: nn.Parameter) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        """The scaled weight."""
        return weight * self.scale.reshape(-1, *[1] * (weight.ndim - 1))


class ScaleShift(Scale):
    """Multiplies a bias [outputs] by the same factors and adds an offset."""

    def __init__(self, scale: nn.Parameter) -> None:
        super().__init__(scale)
        self.shift = nn.Parameter(torch.zeros_like(scale))

    def forward(self, bias: Tensor) -> Tensor:
        """The scaled and shifted bias."""
        return bias * self.scale + self.shift


def add_scales_and_shifts(parts: ModelMap) -> set[str]:
    """Add a scale, and a shift if there is a bias, to every layer but the classifier, in place.

    Returns the names of the added parameters.
    """
    model = parts.model
    if any(getattr(module, "q_bias", None) is not None for module in parts.attentions.values()):
        qkv.split(parts)  # biases outside the projections would be neither scaled nor shifted
    classifier = {id(module) for part in parts.classifier.values() for module in part.modules()}
    modules: list[Any] = list(model.modules())
    for module in modules:
        if id(module) not in classifier and _has_outputs(module):
            scale = nn.Parameter(torch.ones(len(module.weight), device=module.weight.device))
            parametrize.register_parametrization(module, "weight", Scale(scale))
            if module.bias is not None:
                parametrize.register_parametrization(module, "bias", ScaleShift(scale))
    return {
        name
        for name, _ in model.named_parameters()
        if ".parametrizations." in name and name.endswith((".scale", ".shift"))
    }


def merge_scales_and_shifts(model: nn.Module) -> None:
    """Replace each scaled weight and shifted bias by its value, in place.

    torch's ``remove_parametrizations`` is not used, because it changes a class that a copy of the
    model shares.
    """
    modules: list[Any] = list(model.modules())
    for module in modules:
        if parametrize.is_parametrized(module):
            values = {name: getattr(module, name).detach() for name in module.parametrizations}
            module.__class__ = type(module).__bases__[0]
            del module.parametrizations
            for name, value in values.items():
                module.register_parameter(name, nn.Parameter(value))


def _has_outputs(module: Any) -> bool:
    layer = isinstance(module, nn.Linear | nn.Conv2d) or is_norm(module)
    return layer and isinstance(getattr(module, "weight", None), nn.Parameter)
