"""RISE: the increase of the probability when a random mask leaves a location visible."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.saliency.methods import layers
from core.saliency.methods.layers import check_finite

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
    """Average random masks, weighted by the probability of the masked image.

    Petsiuk, Das and Saenko, “RISE”, 2018, equation 6 and section 3.3. The mean probability over all
    masks is subtracted, so that a location without influence has the value 0.

    Args:
        model: The classifier.
        pixels: Network input of shape (batch, channels, height, width).
        finding: Index of the output to explain.
        masks: Number of masks; the same masks are used for all images.
        cells: Cells along each side of a mask before it is enlarged and shifted.
        visible: Share of the cells that leave the image visible.
        seed: Seed of the masks.

    Returns:
        Probabilities of shape (batch, height, width), 0 and above.

    Raises:
        NotFiniteError: The model's output is NaN or infinite.
    """
    drawn = random_masks(masks, (pixels.shape[-2], pixels.shape[-1]), cells, visible, seed)
    flat = drawn.flatten(1)
    maps = []
    with layers.FrozenWeights(model), torch.inference_mode():
        for image in pixels:
            # In batches of masks: all masked copies of one image would not fit into memory.
            batches = (
                layers.logits(model(image[None] * batch[:, None].to(pixels.device)))[:, finding]
                for batch in torch.split(drawn, BATCH)
            )
            scores = torch.cat([logits.sigmoid() for logits in batches]).float().cpu()
            # The paper's estimate has an offset, the mean probability, at every location, since
            # each pixel is visible in a share ``visible`` of the masks.
            values = (scores - scores.mean()) @ flat / (masks * visible)
            maps.append(values.reshape(drawn.shape[1:]).clamp_min(0).numpy())
    return check_finite(np.stack(maps), "the model")


def random_masks(
    count: int, size: tuple[int, int], cells: int, visible: float, seed: int
) -> Tensor:
    """Draw smooth random masks: coarse binary grids, enlarged and shifted by parts of a cell.

    Args:
        count: Number of masks.
        size: Height and width in pixels.
        cells: Cells along each side.
        visible: Probability that a cell is 1.
        seed: Seed of the random numbers.

    Returns:
        Shape (count, height, width), 0 to 1.
    """
    generator = torch.Generator().manual_seed(seed)
    cell_height, cell_width = (-(-length // cells) for length in size)
    grids = (torch.rand(count, 1, cells, cells, generator=generator) < visible).float()
    # One cell larger than the image, so that a shift by up to a cell stays inside; without the
    # shift the cells' borders would show in every map.
    large = nn.functional.interpolate(
        grids,
        ((cells + 1) * cell_height, (cells + 1) * cell_width),
        mode="bilinear",
        align_corners=False,
    )[:, 0]
    tops = torch.randint(0, cell_height, (count,), generator=generator).tolist()
    lefts = torch.randint(0, cell_width, (count,), generator=generator).tolist()
    cropped = [
        mask[top : top + size[0], left : left + size[1]]
        for mask, top, left in zip(large, tops, lefts, strict=True)
    ]
    return torch.stack(cropped)
