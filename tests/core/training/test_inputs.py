"""Batches of pixels and their augmentation."""

from pathlib import Path

import pytest
import torch

from core.classifier.build import evaluation_transform
from core.data.cache.image_cache import ImageCache, cache_side
from core.data.datasets.registry import open_dataset
from core.data.transforms import TrainTransform
from core.models.backbones.registry import backbone_card
from core.training.inputs import PixelInputs

SIDE = 64


@pytest.fixture
def ids(radiographs: Path) -> list[str]:
    return open_dataset("folder", radiographs).ids("val")


def pixel_inputs(
    radiographs: Path, cache: Path, augmentation: str, copies: int | None = None
) -> PixelInputs:
    card = backbone_card("timm:test_vit")
    images = ImageCache(cache, open_dataset("folder", radiographs), cache_side(SIDE))
    return PixelInputs(
        images,
        TrainTransform(SIDE, card.mean, card.std, augmentation=augmentation),
        evaluation_transform(card, SIDE),
        copies,
    )


def test_only_the_generator_decides_the_augmentation(
    radiographs: Path, tmp_path: Path, ids: list[str]
) -> None:
    def drawn(augmentation: str, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return pixel_inputs(radiographs, tmp_path, augmentation).training(ids, generator)

    assert drawn("crop-flip", 1).shape == (len(ids), 1, SIDE, SIDE)
    assert torch.equal(drawn("crop-flip", 1), drawn("crop-flip", 1))
    assert not torch.equal(drawn("crop-flip", 1), drawn("crop-flip", 2))
    plain = pixel_inputs(radiographs, tmp_path, "none")
    assert torch.equal(drawn("none", 1), plain.evaluation(ids))


@pytest.mark.parametrize("augmentation", ["none", "crop-flip", "randaugment"])
def test_bytes_go_to_the_device_and_the_model_gets_what_the_transform_says(
    radiographs: Path, tmp_path: Path, ids: list[str], augmentation: str
) -> None:
    source = pixel_inputs(radiographs, tmp_path, augmentation)
    images = [source._cache.get(one) for one in ids]
    inputs = source.training(ids, torch.Generator().manual_seed(3))
    assert inputs.dtype == (torch.float32 if augmentation == "randaugment" else torch.uint8)
    expected = source._train(images, torch.Generator().manual_seed(3))
    assert torch.equal(source.pixels(inputs), expected)
    assert source.evaluation(ids).dtype == torch.uint8
    assert torch.equal(source.pixels(source.evaluation(ids)), source._evaluate(images))


def test_copies_are_drawn_by_study_and_number_alone(
    radiographs: Path, tmp_path: Path, ids: list[str]
) -> None:
    for augmentation in ("crop-flip", "randaugment"):
        source = pixel_inputs(radiographs, tmp_path, augmentation, copies=3)
        first, second = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
        each = [source.training(ids, first, epoch=epoch) for epoch in range(6)]
        for epoch in range(3):
            assert torch.equal(each[epoch], each[epoch + 3])
            assert torch.equal(source.training(ids[4:6], second, epoch=epoch), each[epoch][4:6])
            part = source.training(ids, second, slice(2, 5), epoch)
            assert torch.equal(part, each[epoch][2:5])
        for study in range(len(ids)):
            assert not torch.equal(each[0][study], each[1][study])
            assert not torch.equal(each[1][study], each[2][study])
        assert len({source.source(ids[0], copy) for copy in (None, 0, 1, 2)}) == 4
    plain = pixel_inputs(radiographs, tmp_path, "none", copies=3)
    assert plain.copy(4) is None
