"""Linear model on small grey images: the network of the method ``pixels``, without a backbone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from core.models.backbones.card import BackboneCard

SIDE = 32
"""Side of the small images in pixels."""


class PixelRidge(nn.Module):
    """Ridge regression on the grey levels of small images, followed by Platt scaling.

    Args:
        findings: Number of outputs.
        mean: Mean that the input was normalised with, one value or one per channel.
        std: Standard deviation that the input was normalised with, likewise.
    """

    def __init__(
        self, findings: int, mean: float | tuple[float, ...], std: float | tuple[float, ...]
    ) -> None:
        super().__init__()
        self.num_classes = findings
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1), persistent=False)
        self.head = nn.Linear(SIDE * SIDE, findings)
        self.slope = nn.Parameter(torch.ones(findings))
        self.shift = nn.Parameter(torch.zeros(findings))

    mean: Tensor
    std: Tensor

    def get_classifier(self) -> nn.Linear:
        """The ridge regression."""
        return self.head

    def forward_features(self, pixels: Tensor) -> Tensor:
        """Grey levels, 0 to 1, of shape (studies, 1024).

        Args:
            pixels: Normalised input of shape (studies, channels, side, side).
        """
        return small_images((pixels * self.std + self.mean).mean(1, keepdim=True))

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of shape (studies, findings)."""
        scores: Tensor = self.head(self.forward_features(pixels))
        return scores * self.slope + self.shift


def small_images(grey: Tensor) -> Tensor:
    """Grey levels of images reduced to 32 × 32 pixels by area averaging, one row per image.

    Args:
        grey: Shape (studies, 1, height, width).

    Returns:
        Shape (studies, 1024), on the scale of the input.
    """
    return interpolate(grey, SIDE, mode="area").flatten(1)


def network(card: BackboneCard, findings: int) -> PixelRidge:
    """The network for input that is normalised as a backbone's card says."""
    return PixelRidge(findings, card.mean, card.std)
