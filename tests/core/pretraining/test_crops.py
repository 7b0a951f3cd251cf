"""Random crops of images."""

from __future__ import annotations

import numpy as np
import torch

from core.pretraining.crops import MEAN, STD, random_crops


def test_crops_stay_inside_the_image_and_its_range() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 36, 36), np.uint8))
    whole = random_crops(images, 36, (1.0, 1.0), torch.Generator().manual_seed(0))[0] * STD + MEAN
    assert whole.min() >= 0
    assert whole.max() <= 1
    # A crop of a constant image is constant.
    flat = torch.full((4, 36, 36), 200, dtype=torch.uint8)
    cut = random_crops(flat, 32, (0.2, 1.0), torch.Generator().manual_seed(0))[0] * STD + MEAN
    assert torch.allclose(cut, torch.tensor(200 / 255), atol=1e-6)
