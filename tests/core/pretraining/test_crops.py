"""Crops of pictures whose every pixel is known."""

from __future__ import annotations

import numpy as np
import torch

from core.pretraining.crops import MEAN, STD, random_crops


def test_crops_stay_in_the_picture_and_in_range() -> None:
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 36, 36), np.uint8))
    whole = random_crops(pictures, 36, (1.0, 1.0), torch.Generator().manual_seed(0)) * STD + MEAN
    assert whole.min() >= 0
    assert whole.max() <= 1
    # A full-size crop is the picture or its mirror image, up to the ratio of its sides.
    flat = torch.full((4, 36, 36), 200, dtype=torch.uint8)
    cut = random_crops(flat, 32, (0.2, 1.0), torch.Generator().manual_seed(0)) * STD + MEAN
    assert torch.allclose(cut, torch.tensor(200 / 255), atol=1e-6)
