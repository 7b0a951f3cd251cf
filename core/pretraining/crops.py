"""Random crops of radiographs in memory, cut by one call per batch and normalised."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

MEAN, STD = 0.5, 0.25
"""Mean and standard deviation for normalising the input (grey levels 0 to 1); constants, not
estimated from data."""


def random_crops(
    images: Tensor,
    size: int,
    area: tuple[float, float],
    generator: torch.Generator,
    *,
    mirror: bool = True,
    maps: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Crop each image randomly, resize it, flip it with probability 0.5, and normalise it.

    Args:
        images: Grey images, uint8 of shape [B, H, W].
        size: Side of the crops in pixels.
        area: Smallest and largest area of a crop as a share of the image; the aspect ratio is 3:4
            to 4:3.
        generator: Source of the random crops.
        mirror: Whether to flip horizontally.
        maps: Maps of the first images, uint8 of shape [M, T, h, w], which are cropped alike.

    Returns:
        The crops, float32 of shape [B, 1, size, size], normalised by ``MEAN`` and ``STD``, and the
        crops of the maps, float32 of shape [M, T, h, w], 0 to 1.
    """
    count = len(images)
    draws = torch.rand(5, count, generator=generator)
    share = area[0] + (area[1] - area[0]) * draws[0]
    ratio = torch.exp((2 * draws[1] - 1) * math.log(4 / 3))
    width, height = (share * ratio).sqrt().clamp(max=1), (share / ratio).sqrt().clamp(max=1)
    flip = torch.where(draws[4] < 0.5, -1.0, 1.0) if mirror else torch.ones(count)
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0], affine[:, 1, 1] = width * flip, height
    affine[:, 0, 2] = (1 - width) * (2 * draws[2] - 1)
    affine[:, 1, 2] = (1 - height) * (2 * draws[3] - 1)
    grid = functional.affine_grid(
        affine.to(images.device), [count, 1, size, size], align_corners=False
    )
    grey = images[:, None].float().div_(255).sub_(MEAN).div_(STD)
    crops = functional.grid_sample(grey, grid, padding_mode="border", align_corners=False)
    if maps is None:
        return crops, None
    shape = [len(maps), 1, *maps.shape[-2:]]
    grid = functional.affine_grid(affine[: len(maps)].to(maps.device), shape, align_corners=False)
    shares = maps.float().div_(255)
    return crops, functional.grid_sample(shares, grid, align_corners=False)


def resized(images: NDArray[np.uint8], size: int) -> Tensor:
    """Whole images, uint8 of shape [N, H, W], as normalised input of shape [N, 1, size, size]."""
    grey = torch.from_numpy(images)[:, None].float().div_(255).sub_(MEAN).div_(STD)
    if grey.shape[-2:] == (size, size):
        return grey
    return functional.interpolate(grey, (size, size), mode="bilinear", antialias=True)
