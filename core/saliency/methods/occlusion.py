"""Occlusion: the decrease of the logit when a part of the image is covered or replaced.

Captum's occlusion was measured and not used: its window moves by whole pixels and not by cells of
a grid, it has no partial windows at the borders, and it evaluates windows in which nothing changes,
which makes the true counterfactual of one finding eight times as slow.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.errors import DataError
from core.saliency.methods import layers
from core.saliency.methods.layers import check_finite

POSITIONS = 12
WINDOW = 3
COUNTERFACTUAL_POSITIONS = 16
COUNTERFACTUAL_WINDOW = 2
"""A replaced part has no visible border, so that it may be smaller than a covered one."""

BATCH = 64

Cells = tuple[slice, slice]


def occlusion_map(
    model: nn.Module,
    pixels: Tensor,
    finding: int,
    *,
    positions: int = POSITIONS,
    window: int = WINDOW,
) -> NDArray[np.float32]:
    """Move a grey square over the image and record the decrease of the logit.

    Zeiler and Fergus, “Visualizing and Understanding Convolutional Networks”, 2014. The square has
    the mean grey of the backbone's training images (0 after normalisation). The value of a cell is
    the mean decrease over all squares that cover it; an increase counts as 0.

    Args:
        model: The classifier.
        pixels: Network input of shape (batch, channels, height, width).
        finding: Index of the output to explain.
        positions: Cells along each side; the square moves by one cell.
        window: Cells along each side of the square.

    Returns:
        Logits of shape (batch, positions, positions), 0 and above.

    Raises:
        NotFiniteError: The model's output is NaN or infinite.
    """
    grey = torch.zeros_like(pixels)
    return _mean_decreases(model, pixels, grey, finding, positions, window)


def counterfactual_map(
    model: nn.Module,
    pixels: Tensor,
    without: Tensor,
    finding: int,
    *,
    positions: int = COUNTERFACTUAL_POSITIONS,
    window: int = COUNTERFACTUAL_WINDOW,
) -> NDArray[np.float32]:
    """Move a square of the same patient without the finding over the image.

    The result is exact for this model and finding: nothing is approximated, and every composed
    image is one that the generator of the phantoms could have produced at that location.

    Args:
        model: The classifier.
        pixels: Network input of shape (batch, channels, height, width).
        without: The same patients without the finding, of the same shape.
        finding: Index of the output to explain.
        positions: Cells along each side; the square moves by one cell.
        window: Cells along each side of the square.

    Returns:
        Logits of shape (batch, positions, positions), 0 and above.

    Raises:
        DataError: The shapes differ.
        NotFiniteError: The model's output is NaN or infinite.
    """
    if without.shape != pixels.shape:
        raise DataError(
            "The image without the finding differs in size from the image with it.",
            "Give both images of the same patient.",
        )
    return _mean_decreases(model, pixels, without, finding, positions, window)


def _mean_decreases(
    model: nn.Module, pixels: Tensor, fill: Tensor, finding: int, positions: int, window: int
) -> NDArray[np.float32]:
    """Mean decrease of the logit over all squares that cover a cell, filled from ``fill``."""
    height, width = pixels.shape[-2:]
    rows = [round(i * height / positions) for i in range(positions + 1)]
    columns = [round(i * width / positions) for i in range(positions + 1)]
    # Squares also start before the first cell and end behind the last: otherwise cells at the
    # border would be covered by fewer squares than those in the middle.
    starts = range(1 - window, positions)
    squares = [
        (slice(max(i, 0), min(i + window, positions)), slice(max(j, 0), min(j + window, positions)))
        for i in starts
        for j in starts
    ]
    totals = torch.zeros(len(pixels), positions, positions)
    counts = torch.zeros(positions, positions)
    for square in squares:
        counts[square] += 1

    def region(square: Cells) -> Cells:
        down, across = square
        top, left = rows[down.start], columns[across.start]
        return slice(top, rows[down.stop]), slice(left, columns[across.stop])

    with layers.FrozenWeights(model), torch.inference_mode():
        unchanged = layers.logits(model(pixels))[:, finding].float().cpu()
        for index, (image, other) in enumerate(zip(pixels, fill, strict=True)):
            differs = (image != other).any(dim=0)
            # A square that changes no pixel changes no logit: its forward pass is skipped. A
            # counterfactual differs only at the finding, which is true of few squares.
            changed = [square for square in squares if bool(differs[region(square)].any())]
            for first in range(0, len(changed), BATCH):
                batch = changed[first : first + BATCH]
                covered = image[None].repeat(len(batch), 1, 1, 1)
                for i, square in enumerate(batch):
                    down, across = region(square)
                    covered[i, :, down, across] = other[:, down, across]
                logits = layers.logits(model(covered))[:, finding].float().cpu()
                for square, logit in zip(batch, logits, strict=True):
                    totals[index][square] += unchanged[index] - logit
    check_finite(unchanged.numpy(), "the model")
    return check_finite((totals / counts).clamp_min(0).numpy(), "the model")
