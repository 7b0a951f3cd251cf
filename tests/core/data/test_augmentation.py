"""RandAugment and random erasing on grey images."""

from __future__ import annotations

import pytest
import torch

from core.data.augmentation import OPERATIONS, erase, rand_augment
from core.data.transforms import TrainTransform

RAMP = torch.linspace(0, 255, 64 * 64).reshape(64, 64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_keep_shape_and_grow_with_the_magnitude(name: str) -> None:
    image = RAMP.roll(5, 0) * 0.7 + 20
    weak, strong = (OPERATIONS[name](image, one, 1).clamp(0, 255) for one in (0.3, 0.9))
    assert weak.shape == strong.shape == image.shape
    assert torch.isfinite(strong).all()
    changes = [(one - image).abs().mean().item() for one in (weak, strong)]
    if name == "colour":
        assert changes == [0, 0]
    else:
        assert changes[1] > 0.2
        assert changes[1] >= changes[0] - 1e-4


def test_known_results() -> None:
    grey = torch.tensor([[0.0, 50.0], [100.0, 200.0]])
    assert OPERATIONS["invert"](grey, 0.9, 1).tolist() == [[255, 205], [155, 55]]
    assert OPERATIONS["auto-contrast"](grey, 0.9, 1).tolist() == [[0, 63.75], [127.5, 255]]
    assert OPERATIONS["solarize-add"](grey, 0.9, 1).tolist() == [[99, 149], [199, 200]]
    assert OPERATIONS["solarize"](grey, 0.9, 1).tolist() == [[0, 205], [155, 55]]
    assert OPERATIONS["posterize"](grey, 0.9, 1).tolist() == [[0, 0], [0, 128]]
    assert OPERATIONS["brightness"](grey, 0.9, -1).allclose(grey * 0.19)
    assert OPERATIONS["equalize"](grey, 0.9, 1).tolist() == [[0, 85], [170, 255]]


def test_a_shift_moves_by_the_magnitude() -> None:
    image = torch.zeros(100, 100)
    image[40:60, 45:55] = 200
    moved = OPERATIONS["translate-x"](image, 0.9, 1)
    columns = moved.sum(0)
    centre = (columns * (torch.arange(100) + 0.5)).sum() / columns.sum()
    assert centre.item() == pytest.approx(50 - 0.45 * 0.9 * 100, abs=0.1)


@pytest.mark.slow
def test_a_turn_brings_in_the_fill() -> None:
    white = torch.full((64, 64), 255.0)
    for seed in range(200):
        found = rand_augment(white, seeded(seed), fill=90)
        assert found.min() >= 0
        assert found.max() <= 255
    turned = OPERATIONS["rotate"](white - 90, 0.9, 1) + 90
    assert turned[0, 0].item() == 90


@pytest.mark.slow
def test_half_of_the_operations_happen() -> None:
    image = RAMP.roll(9, 1) * 0.6 + 30
    unchanged = sum(torch.equal(rand_augment(image, seeded(seed)), image) for seed in range(400))
    # Both of two are left out, or the one for colour: (1/2 + 1/2 · 1/15)².
    assert unchanged / 400 == pytest.approx((0.5 + 0.5 / 15) ** 2, abs=0.07)


def test_erasing_puts_noise_into_a_quarter() -> None:
    batch = torch.full((400, 3, 32, 32), 9.0)
    erase(batch, seeded())
    changed = (batch != 9).any(dim=1)
    share = changed.flatten(1).any(dim=1).float().mean().item()
    assert share == pytest.approx(0.25, abs=0.06)
    areas = changed.flatten(1).float().mean(dim=1)
    areas = areas[areas > 0]
    assert 0.015 < areas.min() < 0.06
    assert 0.25 < areas.max() < 0.36
    noise = batch[batch != 9]
    assert noise.mean().item() == pytest.approx(0, abs=0.05)
    assert noise.std().item() == pytest.approx(1, abs=0.05)


def test_the_whole_chain_stays_in_range() -> None:
    import numpy as np

    images = [np.random.default_rng(k).integers(0, 256, (40, 40), dtype=np.uint8) for k in range(9)]
    batch = TrainTransform(32, 0.0, 1.0, augmentation="randaugment")(images, seeded())
    assert batch.shape == (9, 3, 32, 32)
    assert torch.isfinite(batch).all()
