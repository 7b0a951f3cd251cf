"""Scaling and shifting features (SSF): a factor and an offset for each output of every layer.

Lian et al. 2022 (arXiv 2210.08823). They stand as parametrisations of the layers' own weights and
biases, which compute the same and can be worked into them without a trace. A layer without a bias
is only scaled, so that it stays a layer without a bias.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from core.models.backbones import head, qkv


class Scale(nn.Module):
    """A weight [outputs, …] times a factor for each output."""

    def __init__(self, scale: nn.Parameter) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        """The scaled weight."""
        return weight * self.scale.reshape(-1, *[1] * (weight.ndim - 1))


class ScaleShift(Scale):
    """A bias [outputs] times the same factors, and an offset."""

    def __init__(self, scale: nn.Parameter) -> None:
        super().__init__(scale)
        self.shift = nn.Parameter(torch.zeros_like(scale))

    def forward(self, bias: Tensor) -> Tensor:
        """The scaled and shifted bias."""
        return bias * self.scale + self.shift


def scale_and_shift(model: nn.Module) -> set[str]:
    """Put a scale, and where there is a bias a shift, behind every layer but the head, in place.

    Returns:
        The names of their parameters.
    """
    if any(getattr(module, "q_bias", None) is not None for _, module in qkv.attentions(model)):
        qkv.split(model)  # biases that stand beside the matrix would be neither
    behind = {id(one) for part in head.parts(model) for one in part.modules()}
    modules: list[Any] = list(model.modules())
    for module in modules:
        if id(module) not in behind and _has_outputs(module):
            scale = nn.Parameter(torch.ones(len(module.weight), device=module.weight.device))
            parametrize.register_parametrization(module, "weight", Scale(scale))
            if module.bias is not None:
                parametrize.register_parametrization(module, "bias", ScaleShift(scale))
    return {
        name
        for name, _ in model.named_parameters()
        if ".parametrizations." in name and name.endswith((".scale", ".shift"))
    }


def work_in(model: nn.Module) -> None:
    """Replace each scaled weight and shifted bias by its value, in place.

    Not by torch's own removal: it changes a class that a copy of the model shares.
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
    plain = isinstance(module, nn.Linear | nn.Conv2d) or "Norm" in type(module).__name__
    return plain and isinstance(getattr(module, "weight", None), nn.Parameter)
