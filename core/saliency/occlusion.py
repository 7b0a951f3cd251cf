"""Occlusion: how far the logit falls when a part of the picture is hidden."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.saliency import layers
from core.saliency.cams import finite

POSITIONS = 12
WINDOW = 3
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
    height, width = pixels.shape[-2:]
    rows = [round(i * height / positions) for i in range(positions + 1)]
    columns = [round(i * width / positions) for i in range(positions + 1)]
    starts = range(1 - window, positions)
    squares = [(i, j) for i in starts for j in starts]
    falls = torch.zeros(len(pixels), positions, positions)
    covers = torch.zeros(positions, positions)
    with layers.Frozen(model), torch.inference_mode():
        whole = layers.logits(model(pixels))[:, finding].float().cpu()
        for index, picture in enumerate(pixels):
            for first in range(0, len(squares), BATCH):
                some = squares[first : first + BATCH]
                hidden = picture[None].repeat(len(some), 1, 1, 1)
                for one, (i, j) in enumerate(some):
                    down = slice(rows[max(i, 0)], rows[min(i + window, positions)])
                    across = slice(columns[max(j, 0)], columns[min(j + window, positions)])
                    hidden[one, :, down, across] = 0
                left = layers.logits(model(hidden))[:, finding].float().cpu()
                for (i, j), value in zip(some, left, strict=True):
                    cells = (slice(max(i, 0), i + window), slice(max(j, 0), j + window))
                    falls[index][cells] += whole[index] - value
                    covers[cells] += 1 if index == 0 else 0
    return finite((falls / covers).clamp_min(0).numpy(), "the model")
