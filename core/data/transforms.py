"""From cached grey pictures to the network's input, one batch at a time.

Pictures are cropped, resized and mirrored as bytes on the host; what goes to the device is one byte
a pixel, and ``Normalisation`` makes it floating point with channels there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from core.data import augmentation as augmenting
from core.errors import unknown_name

SCALE = (0.08, 1.0)
"""Share of the picture's area that a training crop covers."""

RATIO = (3 / 4, 4 / 3)
"""Width over height of a training crop."""

TRIES = 10
"""Draws of a crop before the largest central one is taken."""

AUGMENTATIONS = ("none", "crop-flip", "randaugment")

Statistic = float | tuple[float, ...]


@dataclass(frozen=True)
class Geometry:
    """How the input was cut out of the original picture.

    A point (x, y) of the original, in pixels from its top left corner, lies at
    (x · scale − left, y · scale − top) of the input.
    """

    scale: float
    left: float
    top: float


def crop_geometry(height: int, width: int, input_size: int, resize: int | None = None) -> Geometry:
    """Where ``EvalTransform`` puts a picture of this size.

    Args:
        height: Of the original picture, in pixels.
        width: Of the original picture, in pixels.
        input_size: Side of the network's input.
        resize: Shorter side before the centre crop; by default the input's.
    """
    short = input_size if resize is None else resize
    rows, columns = _resized(height, width, short)
    scale = short / min(height, width)
    # The longer side was cut down to whole pixels: half of what it lost is missing on either end.
    return Geometry(
        scale=scale,
        left=_middle(columns, input_size) + (width * scale - columns) / 2,
        top=_middle(rows, input_size) + (height * scale - rows) / 2,
    )


class EvalTransform:
    """Resize the shorter side, crop the centre, normalise.

    Args:
        input_size: Side of the network's input, in pixels.
        mean: Of the grey levels in 0..1; one number, or one a channel.
        std: Likewise.
        channels: Channels of the input; the grey picture is repeated.
        resize: Shorter side before the crop, at least ``input_size``; by default the input's.
    """

    def __init__(
        self,
        input_size: int,
        mean: Statistic,
        std: Statistic,
        channels: int = 3,
        resize: int | None = None,
    ) -> None:
        self.input_size = input_size
        self.resize = max(input_size, resize or input_size)
        self.normal = Normalisation(mean, std, channels)

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Transform pictures of any size.

        Args:
            images: Grey pictures of shape (height, width), 0 to 255.

        Returns:
            float32 of shape (pictures, channels, input_size, input_size).
        """
        return self.normal(self.squares(images))

    def squares(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """The same before it is normalised.

        Args:
            images: Grey pictures of shape (height, width), 0 to 255.

        Returns:
            uint8 of shape (pictures, 1, input_size, input_size).
        """
        return _stacked(map(self._square, images), len(images), self.input_size)

    def _square(self, image: NDArray[np.uint8]) -> Tensor:
        pixels = torch.from_numpy(np.array(image))[None, None]
        rows, columns = _resized(image.shape[0], image.shape[1], self.resize)
        if (rows, columns) != image.shape:
            pixels = _bicubic(pixels, rows, columns)
        top, left = _middle(rows, self.input_size), _middle(columns, self.input_size)
        return pixels[0, 0, top : top + self.input_size, left : left + self.input_size]


class TrainTransform:
    """Random resized crop, horizontal flip and more, then normalise, as the augmentation says.

    ``crop-flip`` crops a share ``SCALE`` of the area at a ratio ``RATIO``, resizes it (bicubic,
    antialiased) and mirrors half of the pictures. ``randaugment`` adds RandAugment (two of 14
    operations, magnitude 9 ± 0.5, increasing) and random erasing with noise (probability 0.25).
    ``none`` is ``EvalTransform``.

    Args:
        input_size: Side of the network's input, in pixels.
        mean: Of the grey levels in 0..1; one number, or one a channel.
        std: Likewise.
        channels: Channels of the input; the grey picture is repeated.
        augmentation: One of ``AUGMENTATIONS``.

    Raises:
        ConfigurationError: There is no such augmentation.
    """

    def __init__(
        self,
        input_size: int,
        mean: Statistic,
        std: Statistic,
        channels: int = 3,
        augmentation: str = "crop-flip",
    ) -> None:
        if augmentation not in AUGMENTATIONS:
            raise unknown_name(
                "augmentation", augmentation, AUGMENTATIONS, field="train.augmentation"
            )
        self.input_size = input_size
        self.augmentation = augmentation
        self._plain = EvalTransform(input_size, mean, std, channels)
        self._normal = Normalisation(mean, std, channels)

    def __call__(self, images: Sequence[NDArray[np.uint8]], generator: torch.Generator) -> Tensor:
        """Transform pictures of any size; the same generator state gives the same batch.

        Args:
            images: Grey pictures of shape (height, width), 0 to 255.
            generator: The only source of randomness.

        Returns:
            float32 of shape (pictures, channels, input_size, input_size).
        """
        if self.augmentation != "randaugment":
            return self._normal(self.squares(images, generator))
        fill = 255 * self._normal.grey
        changed = [
            augmenting.rand_augment(one, generator, fill)
            for one in self._cropped(images, generator)
        ]
        batch = self._normal(torch.stack(changed)[:, None])
        augmenting.erase(batch, generator)
        return batch

    def squares(
        self,
        images: Sequence[NDArray[np.uint8]],
        generator: torch.Generator,
        part: slice = slice(None),
    ) -> Tensor:
        """Crop and mirror alone, without RandAugment and before normalisation.

        Args:
            images: Grey pictures of shape (height, width), 0 to 255.
            generator: The only source of randomness.
            part: Only these are made, as they would be among all.

        Returns:
            uint8 of shape (pictures, 1, input_size, input_size).
        """
        count = len(images[part])
        if self.augmentation == "none":
            return self._plain.squares(images[part])
        return _stacked(self._cropped(images, generator, part), count, self.input_size)

    def _cropped(
        self,
        images: Sequence[NDArray[np.uint8]],
        generator: torch.Generator,
        part: slice = slice(None),
    ) -> Iterator[Tensor]:
        size = self.input_size
        crops = random_crops([one.shape for one in images], generator)
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        for image, (top, left, height, width), mirror in zip(
            images[part], crops[part].tolist(), mirrored[part].tolist(), strict=True
        ):
            square = image[top : top + height, left : left + width]
            pixels = torch.from_numpy(np.array(square[:, ::-1] if mirror else square))[None, None]
            yield _bicubic(pixels, size, size)[0, 0]


def random_crops(sizes: Sequence[tuple[int, ...]], generator: torch.Generator) -> NDArray[np.int64]:
    """Draw one crop a picture, distributed as torchvision's ``RandomResizedCrop``.

    Args:
        sizes: Height and width of each picture.
        generator: Source of randomness.

    Returns:
        Rows of (top, left, height, width), in pixels.
    """
    count = len(sizes)
    drawn = torch.rand((count, TRIES, 2), generator=generator, dtype=torch.float64).numpy()
    places = torch.rand((count, 2), generator=generator, dtype=torch.float64).numpy()
    full = np.array(sizes, np.int64).reshape(count, 1, 2)
    area = full.prod(axis=2) * (SCALE[0] + (SCALE[1] - SCALE[0]) * drawn[..., 0])
    low, high = np.log(RATIO)
    ratio = np.exp(low + (high - low) * drawn[..., 1])
    wanted = np.rint(np.sqrt(np.stack([area / ratio, area * ratio], axis=2))).astype(np.int64)
    fits = ((wanted > 0) & (wanted <= full)).all(axis=2)
    first = fits.argmax(axis=1)
    found = wanted[np.arange(count), first]
    for i in np.flatnonzero(~fits.any(axis=1)):
        found[i] = _largest(*full[i, 0].tolist())
    corner = np.floor(places * (full[:, 0] - found + 1)).astype(np.int64)
    centred = (full[:, 0] - found) // 2
    corner = np.where(fits.any(axis=1, keepdims=True), corner, centred)
    return np.concatenate([corner, found], axis=1)


def _largest(height: int, width: int) -> tuple[int, int]:
    """The largest central crop whose ratio is within ``RATIO``."""
    if width / height < RATIO[0]:
        return min(height, round(width / RATIO[0])), width
    if width / height > RATIO[1]:
        return height, min(width, round(height * RATIO[1]))
    return height, width


class Normalisation:
    """Makes bytes into the network's input, on whatever device they are.

    Args:
        mean: Of the grey levels in 0..1; one number, or one a channel.
        std: Likewise.
        channels: Channels of the input; the grey picture is repeated.
    """

    def __init__(self, mean: Statistic, std: Statistic, channels: int) -> None:
        self._channels = channels
        self._mean = _each(mean, channels)
        self._std = _each(std, channels)
        self.grey = math.fsum(self._mean) / channels

    def __call__(self, grey: Tensor) -> Tensor:
        """Subtract the mean, divide by the deviation, repeat the channel.

        Args:
            grey: Levels 0 to 255 of shape (pictures, 1, height, width), bytes or floating point.

        Returns:
            float32 of shape (pictures, channels, height, width) on the same device.
        """
        if grey.device.type == "cpu":
            return self._one_by_one(grey)
        return self._at_once(grey)

    def _at_once(self, grey: Tensor) -> Tensor:
        planes = [
            grey.float().sub_(255.0 * mean).mul_(1 / (255.0 * std))
            for mean, std in self._statistics()
        ]
        if len(planes) == 1:
            return planes[0].expand(-1, self._channels, -1, -1).contiguous()
        return torch.cat(planes, dim=1)

    def _one_by_one(self, grey: Tensor) -> Tensor:
        """In pieces that stay in a processor's cache."""
        count, _, height, width = grey.shape
        # NumPy asks the system for large pages, torch does not: new memory costs half as much.
        batch = torch.from_numpy(np.empty((count, self._channels, height, width), np.float32))
        plane = torch.empty((height, width))
        alike = len(self._statistics()) == 1
        for i in range(count):
            for channel, (mean, std) in enumerate(self._statistics()):
                plane.copy_(grey[i, 0]).sub_(255.0 * mean).mul_(1 / (255.0 * std))
                batch[i, slice(None) if alike else channel] = plane
        return batch

    def _statistics(self) -> list[tuple[float, float]]:
        """Mean and deviation by channel; only one pair if all channels have the same."""
        each = list(zip(self._mean, self._std, strict=True))
        return each[:1] if len(set(each)) == 1 else each


def _stacked(squares: Iterable[Tensor], count: int, size: int) -> Tensor:
    batch = torch.empty((count, 1, size, size), dtype=torch.uint8)
    for place, square in zip(batch, squares, strict=True):
        place[0] = square
    return batch


def _each(value: Statistic, channels: int) -> tuple[float, ...]:
    if isinstance(value, int | float):
        return (float(value),) * channels
    if len(value) == channels:
        return tuple(float(one) for one in value)
    return (math.fsum(value) / len(value),) * channels


def _bicubic(pixels: Tensor, rows: int, columns: int) -> Tensor:
    return interpolate(pixels, (rows, columns), mode="bicubic", antialias=True)


def _resized(height: int, width: int, short: int) -> tuple[int, int]:
    """Height and width after the shorter side became ``short``."""
    if height <= width:
        return short, max(short, int(short * width / height))
    return max(short, int(short * height / width)), short


def _middle(length: int, size: int) -> int:
    return round((length - size) / 2)
