"""A few numbers that tell whether two machines hold the same backbone: features of one picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

SHOWN = 6


@dataclass(frozen=True)
class Fingerprint:
    """Features of one picture, in short. Machines differ by rounding, in about the sixth digit.

    Attributes:
        length: Number of features.
        mean: Their mean.
        std: Their standard deviation.
        norm: Their Euclidean norm.
        wave: Their projection on a cosine, which tells of their order too.
        first: The first of them.
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
    """What the backbone gives the classifier, in evaluation mode, before a norm of its own.

    Args:
        model: A timm classifier.
        pixels: Input of shape [B, C, S, S].

    Returns:
        Features of shape [B, D], float32.
    """
    network: Any = model
    training = model.training
    model.eval()
    with torch.inference_mode():
        found: Tensor = network.forward_features(pixels)
        if hasattr(network, "fc_norm"):
            found = network.pool(found)  # fc_norm is new, and would hide mean and spread
        else:
            found = network.forward_head(found, pre_logits=True)
    model.train(training)
    return found.float()


def fingerprint(model: nn.Module, pixels: Tensor) -> Fingerprint:
    """Features of one picture, in short.

    Args:
        model: A timm classifier.
        pixels: Input of shape [1, C, S, S].
    """
    found = features(model, pixels)[0].double()
    wave = torch.cos(torch.arange(len(found), dtype=torch.float64))
    return Fingerprint(
        length=len(found),
        mean=float(found.mean()),
        std=float(found.std()),
        norm=float(found.norm()),
        wave=float(found @ wave),
        first=tuple(float(value) for value in found[:SHOWN]),
    )
