"""Maps from the gradient of the logit by the input: integrated gradients and SmoothGrad.

Captum's implementations were measured and not used: its integrated gradients agree to 4e-8 and
replace ten lines, and its SmoothGrad scales the noise by the batch and not by each image, so that a
map would depend on the other images of its batch.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.saliency.methods import layers
from core.saliency.methods.layers import check_finite

STEPS = 32
SAMPLES = 16
NOISE = 0.15
"""Standard deviation of SmoothGrad's noise, as a share of the image's range: the paper finds 10% to
20% best."""


def integrated_gradients(
    model: nn.Module,
    pixels: Tensor,
    finding: int,
    *,
    baseline: Tensor | None = None,
    steps: int = STEPS,
) -> NDArray[np.float32]:
    """Integrated gradients: each pixel's contribution on the straight path from a baseline.

    Sundararajan, Taly and Yan, “Axiomatic Attribution for Deep Networks”, 2017, equation 1, with
    the integral by the midpoint rule.

    Args:
        model: The classifier.
        pixels: Network input of shape (batch, channels, height, width).
        finding: Index of the output to explain.
        baseline: Start of the path, of the same shape; by default uniform grey, the mean of the
            backbone's training images (0 after normalisation).
        steps: Points on the path.

    Returns:
        Signed logits of shape (batch, height, width), summed over channels. Their sum over an image
        is its logit minus the baseline's, up to the error of the midpoint rule.

    Raises:
        NotFiniteError: A gradient is NaN or infinite.
    """
    start = torch.zeros_like(pixels) if baseline is None else baseline
    path = pixels - start
    total = torch.zeros_like(pixels)
    with layers.FrozenWeights(model):
        # Midpoints instead of the paper's right ends: the error falls with the square of the step.
        for step in range(steps):
            total += _gradient(model, start + (step + 0.5) / steps * path, finding)
    contributions = (path * total / steps).sum(dim=1)
    return check_finite(contributions.float().cpu().numpy(), "the image")


def smooth_grad(
    model: nn.Module,
    pixels: Tensor,
    finding: int,
    *,
    samples: int = SAMPLES,
    noise: float = NOISE,
    seed: int = 0,
) -> NDArray[np.float32]:
    """SmoothGrad: the absolute value of the mean gradient over noisy copies.

    Smilkov et al., “SmoothGrad: removing noise by adding noise”, 2017. All images get the same
    noise, scaled by the range of each, so that a map does not depend on its batch.

    Args:
        model: The classifier.
        pixels: Network input of shape (batch, channels, height, width).
        finding: Index of the output to explain.
        samples: Number of noisy copies.
        noise: Standard deviation as a share of the image's range.
        seed: Seed of the noise.

    Returns:
        Shape (batch, height, width), 0 and above, summed over channels.

    Raises:
        NotFiniteError: A gradient is NaN or infinite.
    """
    # A generator on the CPU: the noise, and so the map, is the same on every device.
    generator = torch.Generator().manual_seed(seed)
    deviation = noise * (pixels.amax(dim=(1, 2, 3)) - pixels.amin(dim=(1, 2, 3)))
    total = torch.zeros_like(pixels)
    with layers.FrozenWeights(model):
        for _ in range(samples):
            drawn = torch.randn(pixels.shape[1:], generator=generator).to(pixels.device)
            total += _gradient(model, pixels + deviation[:, None, None, None] * drawn, finding)
    # The absolute value is taken of the mean and not of each gradient: noise cancels only while
    # gradients keep their sign.
    return check_finite((total / samples).abs().sum(dim=1).float().cpu().numpy(), "the image")


def _gradient(model: nn.Module, pixels: Tensor, finding: int) -> Tensor:
    with torch.enable_grad():
        leaf = pixels.detach().requires_grad_(True)
        # Images of a batch do not influence each other in evaluation mode, so that the gradient of
        # the sum of their logits holds the gradient of each.
        logit = layers.logits(model(leaf))[:, finding].sum()
        (gradient,) = torch.autograd.grad(logit, leaf)
    return gradient
