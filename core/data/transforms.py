"""From cached grey images to the network's input, one batch at a time.

Images are cropped, resized and flipped as bytes on the host. One byte per pixel is sent to the
device, where ``Normalisation`` converts it to floating point and adds channels.
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

from core.data import augmentation
from core.errors import unknown_name

SCALE = (0.08, 1.0)
"""Share of the image's area that a training crop covers."""

RATIO = (3 / 4, 4 / 3)
"""Width over height of a training crop."""

TRIES = 10
"""Number of crops that are drawn before the largest centre crop is used instead."""

AUGMENTATIONS = ("none", "crop-flip", "randaugment")

Statistic = float | tuple[float, ...]


@dataclass(frozen=True)
class Geometry:
    """The map from the original image to the network's input.

    A point (x, y) of the original, in pixels from its top left corner, is at
    (x · scale − left, y · scale − top) in the input.
    """

    scale: float
    left: float
    top: float


def crop_geometry(height: int, width: int, input_size: int, resize: int | None = None) -> Geometry:
    """Return the map that ``EvalTransform`` applies to an image of this size.

    Args:
        height: Of the original image, in pixels.
        width: Of the original image, in pixels.
        input_size: Side of the network's input, in pixels.
        resize: Shorter side before the centre crop; by default ``input_size``.
    """
    short = input_size if resize is None else resize
    rows, columns = _resized(height, width, short)
    scale = short / min(height, width)
    # The longer side was rounded down to whole pixels: half of the loss is at either end.
    return Geometry(
        scale=scale,
        left=_middle(columns, input_size) + (width * scale - columns) / 2,
        top=_middle(rows, input_size) + (height * scale - rows) / 2,
    )


class EvalTransform:
    """Resize the shorter side, crop the centre, normalise.

    Args:
        input_size: Side of the network's input, in pixels.
        mean: Mean of the grey levels in 0..1; one number, or one per channel.
        std: Standard deviation, likewise.
        channels: Channels of the input; the grey image is repeated.
        resize: Shorter side before the crop, at least ``input_size``; by default ``input_size``.
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
        """Transform images of any size.

        Args:
            images: Grey images of shape (height, width), 0 to 255.

        Returns:
            float32 of shape (images, channels, input_size, input_size).
        """
        return self.normal(self.squares(images))

    def squares(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Resize and crop without normalisation.

        Args:
            images: Grey images of shape (height, width), 0 to 255.

        Returns:
            uint8 of shape (images, 1, input_size, input_size).
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
    """Augment and normalise training images.

    ``crop-flip`` crops a share ``SCALE`` of the area at a ratio ``RATIO``, resizes it (bicubic,
    antialiased) and flips half of the images horizontally. ``randaugment`` adds RandAugment (two of
    15 operations, magnitude 9 ± 0.5, increasing) and random erasing with noise (probability 0.25).
    ``none`` is ``EvalTransform``. A step that is switched off does not change the random numbers
    of the others.

    Args:
        input_size: Side of the network's input, in pixels.
        mean: Mean of the grey levels in 0..1; one number, or one per channel.
        std: Standard deviation, likewise.
        channels: Channels of the input; the grey image is repeated.
        augmentation: One of ``AUGMENTATIONS``.
        crop: Crop at random; otherwise resize and crop the centre as in evaluation.
        flip: Flip half of the images horizontally.
        erase: Erase random rectangles, with ``randaugment``.
        resize: Shorter side before the centre crop, where nothing is cropped at random.

    Raises:
        ConfigurationError: The augmentation is unknown.
    """

    def __init__(
        self,
        input_size: int,
        mean: Statistic,
        std: Statistic,
        channels: int = 3,
        augmentation: str = "crop-flip",
        *,
        crop: bool = True,
        flip: bool = True,
        erase: bool = True,
        resize: int | None = None,
    ) -> None:
        if augmentation not in AUGMENTATIONS:
            raise unknown_name(
                "augmentation", augmentation, AUGMENTATIONS, field="train.augmentation"
            )
        self.input_size = input_size
        self.augmentation = augmentation
        self._crop, self._flip, self._erase = crop, flip, erase
        self._unaugmented = EvalTransform(input_size, mean, std, channels, resize)
        self._normal = Normalisation(mean, std, channels)

    def __call__(self, images: Sequence[NDArray[np.uint8]], generator: torch.Generator) -> Tensor:
        """Transform images of any size; the same generator state gives the same batch.

        Args:
            images: Grey images of shape (height, width), 0 to 255.
            generator: The only source of randomness.

        Returns:
            float32 of shape (images, channels, input_size, input_size).
        """
        if self.augmentation != "randaugment":
            return self._normal(self.squares(images, generator))
        fill = 255 * self._normal.grey
        changed = [
            augmentation.rand_augment(square, generator, fill)
            for square in self._cropped(images, generator)
        ]
        batch = self._normal(torch.stack(changed)[:, None])
        if self._erase:
            augmentation.erase(batch, generator)
        return batch

    @property
    def variant(self) -> str:
        """Name of the augmentation and of the steps that it leaves out."""
        steps = {"crop": self._crop, "flip": self._flip, "erase": self._erase}
        return " ".join([self.augmentation, *(f"no-{k}" for k, on in steps.items() if not on)])

    def squares(
        self,
        images: Sequence[NDArray[np.uint8]],
        generator: torch.Generator,
        part: slice = slice(None),
    ) -> Tensor:
        """Crop and flip, without RandAugment and normalisation.

        Args:
            images: Grey images of shape (height, width), 0 to 255.
            generator: The only source of randomness.
            part: Which of the images to transform; the result is the same as in the whole batch.

        Returns:
            uint8 of shape (images, 1, input_size, input_size).
        """
        count = len(images[part])
        if self.augmentation == "none":
            return self._unaugmented.squares(images[part])
        return _stacked(self._cropped(images, generator, part), count, self.input_size)

    def _cropped(
        self,
        images: Sequence[NDArray[np.uint8]],
        generator: torch.Generator,
        part: slice = slice(None),
    ) -> Iterator[Tensor]:
        size = self.input_size
        crops = random_crops([image.shape for image in images], generator)
        flipped = torch.rand(len(images), generator=generator) < 0.5
        for image, (top, left, height, width), flip in zip(
            images[part], crops[part].tolist(), flipped[part].tolist(), strict=True
        ):
            if not self._crop:
                centre = self._unaugmented.squares([image])[0, 0]
                yield centre.flip(1) if flip and self._flip else centre
                continue
            square = image[top : top + height, left : left + width]
            mirrored = flip and self._flip
            pixels = torch.from_numpy(np.array(square[:, ::-1] if mirrored else square))
            yield _bicubic(pixels[None, None], size, size)[0, 0]


def random_crops(sizes: Sequence[tuple[int, ...]], generator: torch.Generator) -> NDArray[np.int64]:
    """Draw one crop per image, distributed as in torchvision's ``RandomResizedCrop``.

    Args:
        sizes: Height and width of each image.
        generator: Source of randomness.

    Returns:
        Rows of (top, left, height, width), in pixels.
    """
    count = len(sizes)
    drawn = torch.rand((count, TRIES, 2), generator=generator, dtype=torch.float64).numpy()
    positions = torch.rand((count, 2), generator=generator, dtype=torch.float64).numpy()
    full = np.array(sizes, np.int64).reshape(count, 1, 2)
    area = full.prod(axis=2) * (SCALE[0] + (SCALE[1] - SCALE[0]) * drawn[..., 0])
    low, high = np.log(RATIO)
    ratio = np.exp(low + (high - low) * drawn[..., 1])
    drawn_sizes = np.rint(np.sqrt(np.stack([area / ratio, area * ratio], axis=2))).astype(np.int64)
    fits = ((drawn_sizes > 0) & (drawn_sizes <= full)).all(axis=2)
    first = fits.argmax(axis=1)
    crop = drawn_sizes[np.arange(count), first]
    for i in np.flatnonzero(~fits.any(axis=1)):
        crop[i] = _largest(*full[i, 0].tolist())
    corner = np.floor(positions * (full[:, 0] - crop + 1)).astype(np.int64)
    centred = (full[:, 0] - crop) // 2
    corner = np.where(fits.any(axis=1, keepdims=True), corner, centred)
    return np.concatenate([corner, crop], axis=1)


def _largest(height: int, width: int) -> tuple[int, int]:
    """Height and width of the largest centre crop whose ratio is within ``RATIO``."""
    if width / height < RATIO[0]:
        return min(height, round(width / RATIO[0])), width
    if width / height > RATIO[1]:
        return height, min(width, round(height * RATIO[1]))
    return height, width


class Normalisation:
    """Converts bytes to the network's input, on the device where they are.

    Args:
        mean: Mean of the grey levels in 0..1; one number, or one per channel.
        std: Standard deviation, likewise.
        channels: Channels of the input; the grey image is repeated.
    """

    def __init__(self, mean: Statistic, std: Statistic, channels: int) -> None:
        self._channels = channels
        self._mean = _each(mean, channels)
        self._std = _each(std, channels)
        self.grey = math.fsum(self._mean) / channels

    def __call__(self, grey: Tensor) -> Tensor:
        """Subtract the mean, divide by the standard deviation, repeat the channel.

        Args:
            grey: Levels 0 to 255 of shape (images, 1, height, width), bytes or floating point.

        Returns:
            float32 of shape (images, channels, height, width) on the same device.
        """
        if grey.device.type == "cpu":
            return self._image_by_image(grey)
        return self._at_once(grey)

    def _at_once(self, grey: Tensor) -> Tensor:
        planes = [
            grey.float().sub_(255.0 * mean).mul_(1 / (255.0 * std))
            for mean, std in self._statistics()
        ]
        if len(planes) == 1:
            return planes[0].expand(-1, self._channels, -1, -1).contiguous()
        return torch.cat(planes, dim=1)

    def _image_by_image(self, grey: Tensor) -> Tensor:
        """One image at a time, which stays in the processor's cache."""
        count, _, height, width = grey.shape
        # NumPy requests large memory pages, torch does not: allocation takes half the time.
        batch = torch.from_numpy(np.empty((count, self._channels, height, width), np.float32))
        plane = torch.empty((height, width))
        same = len(self._statistics()) == 1
        for i in range(count):
            for channel, (mean, std) in enumerate(self._statistics()):
                plane.copy_(grey[i, 0]).sub_(255.0 * mean).mul_(1 / (255.0 * std))
                batch[i, slice(None) if same else channel] = plane
        return batch

    def _statistics(self) -> list[tuple[float, float]]:
        """Mean and standard deviation by channel; one pair if all channels have the same."""
        each = list(zip(self._mean, self._std, strict=True))
        return each[:1] if len(set(each)) == 1 else each


def _stacked(squares: Iterable[Tensor], count: int, size: int) -> Tensor:
    batch = torch.empty((count, 1, size, size), dtype=torch.uint8)
    for row, square in zip(batch, squares, strict=True):
        row[0] = square
    return batch


def _each(value: Statistic, channels: int) -> tuple[float, ...]:
    if isinstance(value, int | float):
        return (float(value),) * channels
    if len(value) == channels:
        return tuple(map(float, value))
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
