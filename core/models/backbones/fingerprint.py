"""Fingerprint of a backbone: statistics of its features on one image, to compare machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

SHOWN = 6


@dataclass(frozen=True)
class Fingerprint:
    """Statistics of the features of one image.

    Between machines they differ by rounding, in about the sixth digit.

    Attributes:
        length: Number of features.
        mean: Their mean.
        std: Their standard deviation.
        norm: Their Euclidean norm.
        wave: Their projection on a cosine, which depends on their order.
        first: The first six features.
    """

    length: int
    mean: float
    std: float
    norm: float
    wave: float
    first: tuple[float, ...]

    def __str__(self) -> str:
        shown = " ".join(f"{value:.5f}" for value in self.first)
        return (
            f"{self.length} features, mean {self.mean:.6f}, std {self.std:.6f}, norm "
            f"{self.norm:.6f}, wave {self.wave:.6f}; first {shown}"
        )


def features(model: nn.Module, pixels: Tensor) -> Tensor:
    """The features that the classifier receives, in evaluation mode, before ``fc_norm``.

    Pixels [B, C, S, S] give float32 features [B, D].
    """
    network: Any = model
    training = model.training
    model.eval()
    with torch.inference_mode():
        values: Tensor = network.forward_features(pixels)
        if hasattr(network, "fc_norm"):
            values = network.pool(values)  # fc_norm is newly initialised and removes mean and scale
        else:
            values = network.forward_head(values, pre_logits=True)
    model.train(training)
    return values.float()


def fingerprint(model: nn.Module, pixels: Tensor) -> Fingerprint:
    """Statistics of the features of one image [1, C, S, S]."""
    values = features(model, pixels)[0].double()
    wave = torch.cos(torch.arange(len(values), dtype=torch.float64))
    return Fingerprint(
        length=len(values),
        mean=float(values.mean()),
        std=float(values.std()),
        norm=float(values.norm()),
        wave=float(values @ wave),
        first=tuple(float(value) for value in values[:SHOWN]),
    )
