"""Random parts of radiographs, cut from pictures in memory by one call and normalised."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

MEAN, STD = 0.5, 0.25
"""Grey level (0 to 1) and spread that the input is normalised with; fixed, not measured."""


def random_crops(
    pictures: Tensor,
    size: int,
    area: tuple[float, float],
    generator: torch.Generator,
    *,
    mirror: bool = True,
) -> Tensor:
    """Cut a random part of each picture, resize it, flip every other one, and normalise.

    Args:
        pictures: uint8 grey of shape [B, H, W].
        size: Side of the crops.
        area: Smallest and largest share of the picture; the ratio of the sides is 3:4 to 4:3.
        generator: Draws the crops.
        mirror: Whether to flip.

    Returns:
        float32 of shape [B, 1, size, size], normalised by ``MEAN`` and ``STD``.
    """
    count = len(pictures)
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
        affine.to(pictures.device), [count, 1, size, size], align_corners=False
    )
    grey = pictures[:, None].float().div_(255).sub_(MEAN).div_(STD)
    return functional.grid_sample(grey, grid, padding_mode="border", align_corners=False)


def resized(pictures: NDArray[np.uint8], size: int) -> Tensor:
    """Whole pictures, uint8 of shape [N, H, W], as normalised input of shape [N, 1, size, size]."""
    grey = torch.from_numpy(pictures)[:, None].float().div_(255).sub_(MEAN).div_(STD)
    if grey.shape[-2:] == (size, size):
        return grey
    return functional.interpolate(grey, (size, size), mode="bilinear", antialias=True)
