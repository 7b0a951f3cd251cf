"""Maps from the gradient of the logit by the picture itself: integrated and smoothed."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.saliency.methods import layers
from core.saliency.methods.cams import finite

STEPS = 32
SAMPLES = 16
NOISE = 0.15
"""Standard deviation of SmoothGrad's noise, as a share of the picture's range: the paper finds 10%
to 20% best."""


def integrated_gradients(
    model: nn.Module,
    pixels: Tensor,
    finding: int,
    *,
    baseline: Tensor | None = None,
    steps: int = STEPS,
) -> NDArray[np.float32]:
    """Integrated gradients: what each pixel adds on the straight way from a baseline.

    Sundararajan, Taly and Yan, “Axiomatic Attribution for Deep Networks”, 2017, equation 1, with
    the integral by the midpoint rule.

    Args:
        model: The classifier.
        pixels: Network input of shape (batch, channels, height, width).
        finding: Index of the output to explain.
        baseline: Where the way begins, of the same shape; by default even grey, the mean of the
            backbone's training pictures (0 after normalisation).
        steps: Points of the way.

    Returns:
        Signed logits of shape (batch, height, width), summed over channels. Their sum over a
        picture is the logit's rise over the baseline's, but for the rule's error.

    Raises:
        NotFiniteError: A gradient is NaN or infinite.
    """
    start = torch.zeros_like(pixels) if baseline is None else baseline
    way = pixels - start
    total = torch.zeros_like(pixels)
    with layers.Frozen(model):
        for step in range(steps):
            total += _gradient(model, start + (step + 0.5) / steps * way, finding)
    added = (way * total / steps).sum(dim=1)
    return finite(added.float().cpu().numpy(), "the picture")


def smooth_grad(
    model: nn.Module,
    pixels: Tensor,
    finding: int,
    *,
    samples: int = SAMPLES,
    noise: float = NOISE,
    seed: int = 0,
) -> NDArray[np.float32]:
    """SmoothGrad: the mean gradient over noisy copies, as an absolute value.

    Smilkov et al., “SmoothGrad: removing noise by adding noise”, 2017. All pictures get the same
    noise, scaled by each one's range, so that a map does not depend on its batch.

    Args:
        model: The classifier.
        pixels: Network input of shape (batch, channels, height, width).
        finding: Index of the output to explain.
        samples: Noisy copies.
        noise: Standard deviation as a share of the picture's range.
        seed: Seed of the noise.

    Returns:
        Shape (batch, height, width), 0 and above, summed over channels.

    Raises:
        NotFiniteError: A gradient is NaN or infinite.
    """
    generator = torch.Generator().manual_seed(seed)
    spread = noise * (pixels.amax(dim=(1, 2, 3)) - pixels.amin(dim=(1, 2, 3)))
    total = torch.zeros_like(pixels)
    with layers.Frozen(model):
        for _ in range(samples):
            drawn = torch.randn(pixels.shape[1:], generator=generator).to(pixels.device)
            total += _gradient(model, pixels + spread[:, None, None, None] * drawn, finding)
    return finite((total / samples).abs().sum(dim=1).float().cpu().numpy(), "the picture")


def _gradient(model: nn.Module, pixels: Tensor, finding: int) -> Tensor:
    with torch.enable_grad():
        asked = pixels.detach().requires_grad_(True)
        logit = layers.logits(model(asked))[:, finding].sum()
        (found,) = torch.autograd.grad(logit, asked)
    return found
