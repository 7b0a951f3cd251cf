"""From grey images to batches: geometry, distribution, normalisation, randomness."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from core.data.transforms import (
    EvalTransform,
    Normalisation,
    TrainTransform,
    crop_geometry,
    random_crops,
)
from core.errors import ConfigurationError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


# --- evaluation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("resize", [None, 64, 73])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (80, 101), (131, 77), (50, 400)])
def test_evaluation_is_the_resized_centre(height: int, width: int, resize: int | None) -> None:
    """Against Pillow's bicubic resize, which is antialiased as well."""
    image = np.asarray(
        Image.fromarray(noise(9, 9)).resize((width, height), Image.Resampling.BICUBIC)
    )
    found = EvalTransform(64, 0.0, 1 / 255, channels=1, resize=resize)([image])[0, 0]
    short = resize or 64
    rows = short if height <= width else int(short * height / width)
    columns = short if width <= height else int(short * width / height)
    whole = Image.fromarray(image).resize((columns, rows), Image.Resampling.BICUBIC)
    top, left = round((rows - 64) / 2), round((columns - 64) / 2)
    expected = np.asarray(whole)[top : top + 64, left : left + 64]
    assert found.shape == (64, 64)
    assert np.abs(found.numpy() - expected).max() <= 2


@pytest.mark.parametrize("resize", [None, 73])
@pytest.mark.parametrize(("height", "width"), [(500, 640), (640, 500), (256, 256)])
def test_geometry_leads_back_to_the_original(height: int, width: int, resize: int | None) -> None:
    geometry = crop_geometry(height, width, 64, resize)
    for x, y in ((0.5, 0.5), (0.45, 0.55), (0.6, 0.42)):
        image = np.zeros((height, width), np.float32)
        down, across = np.mgrid[:height, :width] + 0.5
        image = 255 * np.exp(-((down - y * height) ** 2 + (across - x * width) ** 2) / 800)
        pixels = EvalTransform(64, 0.0, 1.0, 1, resize)([image.astype(np.uint8)])[0, 0].double()
        total = pixels.sum()
        places = torch.arange(64) + 0.5
        found = (
            float((pixels.sum(0) * places).sum() / total),
            float((pixels.sum(1) * places).sum() / total),
        )
        expected = (x * width * geometry.scale - geometry.left,
                    y * height * geometry.scale - geometry.top)  # fmt: skip
        assert found == pytest.approx(expected, abs=0.3)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalisation(channels: int) -> None:
    grey = np.full((64, 64), 51, np.uint8)
    found = EvalTransform(32, 0.4785, 0.2834, channels)([grey, grey])
    assert found.shape == (2, channels, 32, 32)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    assert torch.allclose(found, torch.tensor((0.2 - 0.4785) / 0.2834), atol=1e-5)


def test_normalisation_by_channel() -> None:
    found = EvalTransform(32, (0.1, 0.2, 0.3), (0.5, 0.25, 0.125))(
        [np.full((40, 40), 51, np.uint8)]
    )
    expected = [(0.2 - 0.1) / 0.5, 0.0, (0.2 - 0.3) / 0.125]
    assert found.mean(dim=(0, 2, 3)).tolist() == pytest.approx(expected, abs=1e-5)
    single = EvalTransform(32, (0.1, 0.2, 0.3), (0.5, 0.5, 0.5), channels=1)
    assert single([np.full((40, 40), 51, np.uint8)]).abs().max() < 1e-5


@pytest.mark.parametrize("mean", [0.4785, (0.1, 0.2, 0.3)])
def test_another_device_normalises_to_the_same(mean: float | tuple[float, ...]) -> None:
    grey = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(3, 1, 1, 1)
    normal = Normalisation(mean, 0.25, 3)
    assert torch.equal(normal._at_once(grey), normal(grey))
    elsewhere = normal(grey.to("meta"))
    assert elsewhere.is_contiguous()
    assert (elsewhere.device.type, elsewhere.shape) == ("meta", (3, 3, 16, 16))
    assert elsewhere.dtype == torch.float32


def test_read_only_images_are_taken_without_a_warning() -> None:
    image = noise(40, 40)
    image.flags.writeable = False
    assert EvalTransform(32, 0.5, 0.25)([image]).shape == (1, 3, 32, 32)
    assert TrainTransform(32, 0.5, 0.25)([image], seeded()).shape == (1, 3, 32, 32)


def test_images_of_many_sizes_in_one_batch() -> None:
    images = [noise(40, 50), noise(64, 41), noise(33, 33)]
    for transform in (EvalTransform(32, 0.5, 0.25),
                      lambda batch: TrainTransform(32, 0.5, 0.25)(batch, seeded())):  # fmt: skip
        assert transform(images).shape == (3, 3, 32, 32)


# --- training ------------------------------------------------------------------------------------


def test_crops_are_distributed_as_torchvisions() -> None:
    """Scale, ratio and place, against the class that the study used, on an oblong image."""
    height, width, count = 256, 320, 4000
    ours = random_crops([(height, width)] * count, seeded()).astype(float)
    torch.manual_seed(0)
    frame = torch.empty(1, height, width)
    theirs = np.array([
        RandomResizedCrop.get_params(frame, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)
    ], float)  # fmt: skip
    for measure in (
        lambda c: c[:, 2] * c[:, 3] / (height * width),
        lambda c: np.log(c[:, 3] / c[:, 2]),
        lambda c: c[:, 0] / np.maximum(1, height - c[:, 2]),
        lambda c: c[:, 1] / np.maximum(1, width - c[:, 3]),
    ):
        one, two = np.sort(measure(ours)), np.sort(measure(theirs))
        places = np.concatenate([one, two])
        steps = [np.searchsorted(one, places, "right"), np.searchsorted(two, places, "right")]
        distance = np.abs(steps[0] - steps[1]).max() / count
        assert distance < 1.95 * np.sqrt(2 / count), "Kolmogorov-Smirnov, p < 0.001"
    assert (ours[:, 0] + ours[:, 2] <= height).all()
    assert (ours[:, 1] + ours[:, 3] <= width).all()
    assert (ours >= 0).all()


@pytest.mark.parametrize("size", [(10, 300), (300, 10), (1, 1), (2, 1)])
def test_crops_of_odd_images_stay_inside(size: tuple[int, int]) -> None:
    crops = random_crops([size] * 200, seeded())
    assert (crops[:, 2:] >= 1).all()
    assert (crops[:, 0] + crops[:, 2] <= size[0]).all()
    assert (crops[:, 1] + crops[:, 3] <= size[1]).all()


def test_a_crop_holds_what_the_image_holds() -> None:
    """Levels code the place: a crop's levels tell where it was cut."""
    image = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    transform = TrainTransform(64, 0.0, 1 / 255, channels=1)
    found = transform([image] * 300, seeded(3))[:, 0]
    crops = random_crops([(256, 256)] * 300, seeded(3))
    rows = found.mean(dim=1)
    mirrored = rows[:, 0] > rows[:, -1]
    assert 0.4 < mirrored.float().mean() < 0.6
    left = torch.where(mirrored, rows[:, -1], rows[:, 0])
    assert np.abs(left.numpy() - crops[:, 1]).max() < 3
    assert not mirrored.all()
    assert (found.std(dim=1) < 1).all(), "rows differ: it was turned"


@pytest.mark.parametrize("augmentation", ["crop-flip", "randaugment"])
def test_the_generator_is_the_only_source_of_randomness(augmentation: str) -> None:
    images = [noise(40, 44, k) for k in range(6)]
    transform = TrainTransform(32, 0.5, 0.25, augmentation=augmentation)
    torch.manual_seed(1)
    one = transform(images, seeded(5))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    two = transform(images, seeded(5))
    assert torch.equal(one, two)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(one, transform(images, seeded(6)))


def test_without_augmentation_training_is_evaluation() -> None:
    images = [noise(40, 44)]
    plain = TrainTransform(32, 0.5, 0.25, augmentation="none")(images, seeded())
    assert torch.equal(plain, EvalTransform(32, 0.5, 0.25)(images))


def test_a_step_that_is_off_leaves_the_others_as_they_are() -> None:
    images = [noise(40, 44, k) for k in range(12)]

    def squares(**options: bool) -> torch.Tensor:
        return TrainTransform(32, 0.5, 0.25, resize=36, **options).squares(images, seeded(5))

    usual, unflipped, uncropped = squares(), squares(flip=False), squares(crop=False)
    mirrored = torch.tensor([not torch.equal(*pair) for pair in zip(usual, unflipped, strict=True)])
    assert 0 < mirrored.sum() < len(images)
    # Antialiasing rounds the mirrored side differently by at most one grey level.
    difference = usual[mirrored].int() - unflipped[mirrored].flip(3).int()
    assert difference.abs().max() <= 1
    plain = EvalTransform(32, 0.5, 0.25, resize=36).squares(images)
    expected = torch.where(mirrored[:, None, None, None], plain.flip(3), plain)
    assert torch.equal(uncropped, expected)
    assert torch.equal(squares(crop=False, flip=False), plain)


def test_random_erasing_can_be_left_out() -> None:
    images = [noise(40, 44, k) for k in range(12)]
    usual, whole = (
        TrainTransform(32, 0.5, 0.25, augmentation="randaugment", erase=erase)(images, seeded(2))
        for erase in (True, False)
    )
    erased = [not torch.equal(*pair) for pair in zip(usual, whole, strict=True)]
    assert 0 < sum(erased) < len(images) / 2


def test_an_unknown_augmentation_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="crop-flip"):
        TrainTransform(32, 0.5, 0.25, augmentation="crop")


@pytest.mark.slow
def test_an_image_costs_little() -> None:
    """The figure in the README comes from the benchmark; this guards its order of magnitude."""
    images = [noise(256, 256, k) for k in range(16)]
    transform = TrainTransform(224, 0.5, 0.25)
    transform(images, seeded())
    times = []
    for _ in range(5):
        start = time.thread_time()
        transform(images, seeded())
        times.append((time.thread_time() - start) / len(images))
    assert min(times) < 0.004
