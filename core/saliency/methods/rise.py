"""RISE: how far the probability rises when a random mask leaves a place visible."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.saliency.methods import layers
from core.saliency.methods.cams import finite

MASKS = 512
CELLS = 7
VISIBLE = 0.5
BATCH = 64


def rise_map(
    model: nn.Module,
    pixels: Tensor,
    finding: int,
    *,
    masks: int = MASKS,
    cells: int = CELLS,
    visible: float = VISIBLE,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Weight random masks by the probability of the picture seen through each of them.

    Petsiuk, Das and Saenko, “RISE”, 2018, equation 6 and section 3.3. The mean probability over all
    masks is taken off, so that a place that does not matter has 0 and not half of everything.

    Args:
        model: The classifier.
        pixels: Network input of shape (batch, channels, height, width).
        finding: Index of the output to explain.
        masks: How many are drawn; the same for all pictures.
        cells: Cells along each side of a mask before it is enlarged and shifted.
        visible: Share of the cells that leave the picture visible.
        seed: Seed of the masks.

    Returns:
        Probabilities of shape (batch, height, width), 0 and above.

    Raises:
        NotFiniteError: The model's answer is NaN or infinite.
    """
    drawn = random_masks(masks, (pixels.shape[-2], pixels.shape[-1]), cells, visible, seed)
    flat = drawn.flatten(1)
    found = []
    with layers.Frozen(model), torch.inference_mode():
        for picture in pixels:
            scores = torch.cat(
                [
                    layers.logits(model(picture[None] * some[:, None].to(pixels.device)))[
                        :, finding
                    ].sigmoid()
                    for some in torch.split(drawn, BATCH)
                ]
            ).float().cpu()  # fmt: skip
            seen = (scores - scores.mean()) @ flat / (masks * visible)
            found.append(seen.reshape(drawn.shape[1:]).clamp_min(0).numpy())
    return finite(np.stack(found), "the model")


def random_masks(
    count: int, size: tuple[int, int], cells: int, visible: float, seed: int
) -> Tensor:
    """Masks of shape (count, height, width), 0 to 1: coarse, enlarged, shifted by parts of a cell.

    Args:
        count: How many.
        size: Height and width in pixels.
        cells: Cells along each side.
        visible: Probability that a cell is 1.
        seed: Seed of the drawing.
    """
    generator = torch.Generator().manual_seed(seed)
    down, across = (-(-length // cells) for length in size)
    grids = (torch.rand(count, 1, cells, cells, generator=generator) < visible).float()
    large = nn.functional.interpolate(
        grids, ((cells + 1) * down, (cells + 1) * across), mode="bilinear", align_corners=False
    )[:, 0]
    rows = torch.randint(0, down, (count,), generator=generator).tolist()
    columns = torch.randint(0, across, (count,), generator=generator).tolist()
    cut = [
        one[row : row + size[0], column : column + size[1]]
        for one, row, column in zip(large, rows, columns, strict=True)
    ]
    return torch.stack(cut)
