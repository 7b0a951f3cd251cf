"""Occlusion: how far the logit falls when a part of the picture is hidden, or is made healthy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.errors import DataError
from core.saliency.methods import layers
from core.saliency.methods.cams import finite

POSITIONS = 12
WINDOW = 3
HEALED_POSITIONS = 16
HEALED_WINDOW = 2
"""A replaced part leaves no edge behind, so that it may be smaller than a hidden one."""

BATCH = 64


def occlusion_map(
    model: nn.Module,
    pixels: Tensor,
    finding: int,
    *,
    positions: int = POSITIONS,
    window: int = WINDOW,
) -> NDArray[np.float32]:
    """Slide a grey square over the picture and record the fall of the logit.

    Zeiler and Fergus, “Visualizing and Understanding Convolutional Networks”, 2014. The square has
    the mean grey of the backbone's training pictures (0 after normalisation). A cell's value is the
    mean fall over all squares that cover it; a rise counts as 0.

    Args:
        model: The classifier.
        pixels: Network input of shape (batch, channels, height, width).
        finding: Index of the output to explain.
        positions: Cells along each side; the square moves by one cell.
        window: Cells along each side of the square.

    Returns:
        Logits of shape (batch, positions, positions), 0 and above.
    """
    grey = torch.zeros_like(pixels)
    return _falls(model, pixels, grey, finding, positions, window)


def counterfactual_map(
    model: nn.Module,
    pixels: Tensor,
    without: Tensor,
    finding: int,
    *,
    positions: int = HEALED_POSITIONS,
    window: int = HEALED_WINDOW,
) -> NDArray[np.float32]:
    """Slide a square of the same patient without the finding over the picture.

    What the model answers to it is the truth about this model and this finding: nothing is
    approximated and no picture is made that the generator could not have drawn in that place.

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
    """
    if without.shape != pixels.shape:
        raise DataError(
            "The picture without the finding has another size than the one with it.",
            "Give both pictures of one patient.",
        )
    return _falls(model, pixels, without, finding, positions, window)


def _falls(
    model: nn.Module, pixels: Tensor, fill: Tensor, finding: int, positions: int, window: int
) -> NDArray[np.float32]:
    height, width = pixels.shape[-2:]
    rows = [round(i * height / positions) for i in range(positions + 1)]
    columns = [round(i * width / positions) for i in range(positions + 1)]
    starts = range(1 - window, positions)
    squares = [(i, j) for i in starts for j in starts]
    falls = torch.zeros(len(pixels), positions, positions)
    covers = torch.zeros(positions, positions)
    for i, j in squares:
        covers[max(i, 0) : i + window, max(j, 0) : j + window] += 1

    def part(i: int, j: int) -> tuple[slice, slice]:
        return (
            slice(rows[max(i, 0)], rows[min(i + window, positions)]),
            slice(columns[max(j, 0)], columns[min(j + window, positions)]),
        )

    with layers.Frozen(model), torch.inference_mode():
        whole = layers.logits(model(pixels))[:, finding].float().cpu()
        for index, (picture, other) in enumerate(zip(pixels, fill, strict=True)):
            unlike = (picture != other).any(dim=0)
            # Where nothing changes the logit does not either, so that pass can be spared.
            changed = [(i, j) for i, j in squares if bool(unlike[part(i, j)].any())]
            for first in range(0, len(changed), BATCH):
                some = changed[first : first + BATCH]
                hidden = picture[None].repeat(len(some), 1, 1, 1)
                for one, (i, j) in enumerate(some):
                    down, across = part(i, j)
                    hidden[one, :, down, across] = other[:, down, across]
                left = layers.logits(model(hidden))[:, finding].float().cpu()
                for (i, j), value in zip(some, left, strict=True):
                    cells = (slice(max(i, 0), i + window), slice(max(j, 0), j + window))
                    falls[index][cells] += whole[index] - value
    finite(whole.numpy(), "the model")
    return finite((falls / covers).clamp_min(0).numpy(), "the model")
