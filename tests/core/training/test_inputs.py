"""Batches of pixels, and what is seeded in them."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from core.classifier.build import evaluation_transform
from core.data.cache.image_cache import ImageCache, cache_side
from core.data.datasets.registry import open_dataset
from core.data.transforms import TrainTransform
from core.models.backbones.registry import backbone_card
from core.training import batches
from core.training.inputs import PixelInputs

SIDE = 64


def test_every_study_is_in_one_batch_of_nearly_equal_size() -> None:
    ids = [f"{i}" for i in range(65)]
    parts = batches.batches(ids, 64, seed=0, epoch=0)
    assert sorted(map(len, parts)) == [32, 33]
    assert Counter(one for part in parts for one in part) == Counter(ids)
    assert batches.batches(ids, 64, 0, 0) == parts
    assert batches.batches(ids, 64, 0, 1) != parts
    assert batches.batches(ids, 64, 1, 0) != parts
    assert batches.batches(ids[:1], 64, 0, 0) == [["0"]]
    assert [len(part) for part in batches.batches(ids[:64], 16, 0, 0)] == [16] * 4


def test_steps_have_seeds_of_their_own() -> None:
    seeds = [batches.step_seed(s, e, i) for s in range(4) for e in range(10) for i in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= one < 2**63 for one in seeds)
    assert batches.step_seed(0, 1, 2) == batches.step_seed(0, 1, 2)


def test_chunks_cover_everything_in_order() -> None:
    assert [list(one) for one in batches.chunks("abcde", 2)] == [["a", "b"], ["c", "d"], ["e"]]
    assert list(batches.chunks([], 2)) == []


def test_batches_come_in_order_one_ahead() -> None:
    asked: list[int] = []

    def load(i: int) -> torch.Tensor:
        asked.append(i)
        return torch.tensor(i)

    found = []
    for i, one in batches.prefetched(load, 2, 6):
        assert max(asked) <= i + 1
        found.append((i, one.item()))
    assert found == [(i, i) for i in range(2, 6)]
    assert asked == [2, 3, 4, 5]
    assert list(batches.prefetched(load, 3, 3)) == []


def test_a_fault_while_loading_is_raised_where_the_batch_is_used() -> None:
    def load(i: int) -> torch.Tensor:
        if i == 1:
            raise OSError("gone")
        return torch.tensor(i)

    coming = batches.prefetched(load, 0, 3)
    assert next(coming)[0] == 0
    with pytest.raises(OSError, match="gone"):
        next(coming)


@pytest.fixture
def ids(radiographs: Path) -> list[str]:
    return open_dataset("folder", radiographs).ids("val")


def pixel_inputs(
    radiographs: Path, cache: Path, augmentation: str, copies: int | None = None
) -> PixelInputs:
    card = backbone_card("timm:test_vit")
    pictures = ImageCache(cache, open_dataset("folder", radiographs), cache_side(SIDE))
    return PixelInputs(
        pictures,
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
    feed = pixel_inputs(radiographs, tmp_path, augmentation)
    pictures = [feed._cache.get(one) for one in ids]
    inputs = feed.training(ids, torch.Generator().manual_seed(3))
    assert inputs.dtype == (torch.float32 if augmentation == "randaugment" else torch.uint8)
    expected = feed._train(pictures, torch.Generator().manual_seed(3))
    assert torch.equal(feed.pixels(inputs), expected)
    assert feed.evaluation(ids).dtype == torch.uint8
    assert torch.equal(feed.pixels(feed.evaluation(ids)), feed._evaluate(pictures))


def test_copies_are_drawn_by_study_and_number_alone(
    radiographs: Path, tmp_path: Path, ids: list[str]
) -> None:
    for augmentation in ("crop-flip", "randaugment"):
        feed = pixel_inputs(radiographs, tmp_path, augmentation, copies=3)
        first, second = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
        each = [feed.training(ids, first, epoch=epoch) for epoch in range(6)]
        for epoch in range(3):
            assert torch.equal(each[epoch], each[epoch + 3])
            assert torch.equal(feed.training(ids[4:6], second, epoch=epoch), each[epoch][4:6])
            part = feed.training(ids, second, slice(2, 5), epoch)
            assert torch.equal(part, each[epoch][2:5])
        for study in range(len(ids)):
            assert not torch.equal(each[0][study], each[1][study])
            assert not torch.equal(each[1][study], each[2][study])
        assert len({feed.source(ids[0], copy) for copy in (None, 0, 1, 2)}) == 4
    plain = pixel_inputs(radiographs, tmp_path, "none", copies=3)
    assert plain.copy(4) is None
