"""What is pre-trained on: pictures in memory, how often each is seen, and their reports."""

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
    """Pictures and reports, which are drawn in an order that follows from seed and step alone.

    Args:
        images: uint8 grey of shape [N, H, W].
        times: How often each picture is seen in an epoch, shape [N]; by default once.
        reports: The report of each picture, empty where there is none.

    Attributes:
        places: The pictures of an epoch, in no order.
        vocabulary: The words of the reports, or None.
        words: The reports as numbers of shape [N, L], or None.

    Raises:
        DataError: The array is not a stack of grey pictures, or there is not one report for each.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        times: NDArray[np.int64] | None = None,
        reports: Sequence[str] | None = None,
    ) -> None:
        if images.ndim != 3 or images.dtype != np.uint8 or not len(images):
            raise DataError(
                f"Pre-training needs uint8 pictures of shape [N, H, W], not {images.dtype} of "
                f"shape {list(images.shape)}."
            )
        if reports is not None and len(reports) != len(images):
            raise DataError(
                f"Pre-training was given {len(images):,} pictures and {len(reports):,} reports.",
                "Give one report a picture, empty where there is none.",
            )
        self.images, self._times = images, times
        self.places = np.arange(len(images))
        if times is not None:
            self.places = np.repeat(self.places, times)
        self.vocabulary: Vocabulary | None = None
        self.words: Tensor | None = None
        if reports is not None:
            self.vocabulary = Vocabulary.of(reports)
            self.words = torch.from_numpy(self.vocabulary.encode(reports))
        self._epoch: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    @property
    def reported(self) -> int:
        """Pictures with a report."""
        return 0 if self.words is None else int((self.words[:, 0] != PAD).sum())

    def draw(self, step: int, size: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """The pictures of one step, uint8 of shape [size, H, W], and their words."""
        count = len(self.places)
        steps = np.arange(step * size, (step + 1) * size)
        parts = []
        for epoch in np.unique(steps // count):
            if self._epoch[0] != epoch:
                order = np.random.default_rng([seed, int(epoch)]).permutation(count)
                self._epoch = (int(epoch), order)
            parts.append(self._epoch[1][steps[steps // count == epoch] % count])
        chosen = self.places[np.concatenate(parts)]
        pictures = torch.from_numpy(self.images[chosen])
        return pictures, None if self.words is None else self.words[torch.from_numpy(chosen)]

    def digests(self) -> dict[str, str | None]:
        """Hashes of the pictures (with how often each is seen) and of the reports."""
        images = hashlib.sha256(np.ascontiguousarray(self.images).data)
        if self._times is not None:
            images.update(np.ascontiguousarray(self._times).data)
        words = None if self.words is None else hashlib.sha256(self.words.numpy().data)
        return {
            "images": images.hexdigest(),
            "reports": None if words is None else words.hexdigest(),
        }
