"""Training data of pre-training: images in memory, their repetitions, and their reports."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.errors import DataError
from core.pretraining.vocabulary import PAD, Vocabulary


class Records:
    """Images and reports, sampled in an order that depends only on the seed and the step.

    Args:
        images: Grey images, uint8 of shape [N, H, W].
        times: How often an epoch contains each image, shape [N]; by default once.
        reports: The report of each image; an empty text if it has none.
        dense: Dense targets of the first M images, uint8 of shape [M, T, h, w].

    Attributes:
        epoch_images: Indices of the images of an epoch, repetitions included, unshuffled.
        vocabulary: The words of the reports, or None.
        words: The reports as word numbers of shape [N, L], or None.

    Raises:
        DataError: The array is not a stack of grey images, or their number differs from that of
            the reports.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        times: NDArray[np.int64] | None = None,
        reports: Sequence[str] | None = None,
        dense: NDArray[np.uint8] | None = None,
    ) -> None:
        if images.ndim != 3 or images.dtype != np.uint8 or not len(images):
            raise DataError(
                f"Pre-training needs uint8 images of shape [N, H, W], not {images.dtype} of shape "
                f"{list(images.shape)}."
            )
        if reports is not None and len(reports) != len(images):
            raise DataError(
                f"There are {len(images):,} images and {len(reports):,} reports.",
                "Give one report per image; an empty text if there is none.",
            )
        self.images, self._times, self.dense = images, times, dense
        self.epoch_images = np.arange(len(images))
        if times is not None:
            self.epoch_images = np.repeat(self.epoch_images, times)
        self.vocabulary: Vocabulary | None = None
        self.words: Tensor | None = None
        if reports is not None:
            self.vocabulary = Vocabulary.of(reports)
            self.words = torch.from_numpy(self.vocabulary.encode(reports))
        self._epoch: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    @property
    def reported(self) -> int:
        """Number of images with a report."""
        return 0 if self.words is None else int((self.words[:, 0] != PAD).sum())

    def draw(self, step: int, size: int, seed: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Images of a step, their words, and their dense targets.

        Returns:
            Images, uint8 of shape [size, H, W], those with dense targets first; words [size, L] or
            None; targets, uint8 of shape [m, T, h, w] for the first m images, or None.

        Args:
            step: Number of the step, from 0.
            size: Batch size.
            seed: Seed of the order.
        """
        count = len(self.epoch_images)
        steps = np.arange(step * size, (step + 1) * size)
        parts = []
        for epoch in np.unique(steps // count):
            if self._epoch[0] != epoch:
                order = np.random.default_rng([seed, int(epoch)]).permutation(count)
                self._epoch = (int(epoch), order)
            parts.append(self._epoch[1][steps[steps // count == epoch] % count])
        chosen = self.epoch_images[np.concatenate(parts)]
        maps = None
        if self.dense is not None:
            known = chosen < len(self.dense)
            chosen = np.concatenate([chosen[known], chosen[~known]])
            maps = torch.from_numpy(self.dense[chosen[: known.sum()]])
        images = torch.from_numpy(self.images[chosen])
        words = None if self.words is None else self.words[torch.from_numpy(chosen)]
        return images, words, maps

    def digests(self) -> dict[str, str | None]:
        """SHA-256 of the images with their repetitions, of the reports and of the dense targets."""
        images = hashlib.sha256(np.ascontiguousarray(self.images).data)
        if self._times is not None:
            images.update(np.ascontiguousarray(self._times).data)
        words = None if self.words is None else hashlib.sha256(self.words.numpy().data)
        dense = None if self.dense is None else hashlib.sha256(self.dense.data)
        return {
            "images": images.hexdigest(),
            "reports": None if words is None else words.hexdigest(),
            **({} if dense is None else {"dense": dense.hexdigest()}),
        }
