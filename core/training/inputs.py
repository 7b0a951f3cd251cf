"""Input pipeline of the training loop: batches of pixels, or cached features of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from core.data.cache.image_cache import ImageCache
from core.data.transforms import EvalTransform, TrainTransform
from core.training.batches import WHOLE, copy_seed


class InputSource(Protocol):
    """Inputs of the model for given studies."""

    def training(
        self, ids: Sequence[str], generator: torch.Generator, part: slice = WHOLE, epoch: int = 0
    ) -> Tensor:
        """Inputs of shape (studies, …) on the host, augmented by this generator alone.

        Args:
            ids: A batch.
            generator: What is drawn for a study depends on its place in the batch.
            part: The studies that are wanted.
            epoch: Counted from 0. Where there is a fixed number of augmented copies, it and not
                the generator decides.
        """

    def evaluation(self, ids: Sequence[str]) -> Tensor:
        """Inputs of shape (studies, …) on the host, without augmentation."""

    def forward(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Logits of shape (studies, findings)."""


class PixelInputs:
    """Pictures from the cache, cropped and flipped on the host, normalised on the device.

    Args:
        cache: The pictures.
        train: Makes the input of training.
        evaluate: Makes the input of evaluation.
        copies: Augmented copies of each picture, which the epochs take in turn; by default each
            epoch draws new ones.
    """

    def __init__(
        self,
        cache: ImageCache,
        train: TrainTransform,
        evaluate: EvalTransform,
        copies: int | None = None,
    ) -> None:
        self._cache, self._train, self._evaluate = cache, train, evaluate
        self._copies = None if train.augmentation == "none" else copies

    def training(
        self, ids: Sequence[str], generator: torch.Generator, part: slice = WHOLE, epoch: int = 0
    ) -> Tensor:
        """Augmented pixels for ``pixels``."""
        if self._train.augmentation == "none":
            return self.evaluation(ids[part])
        copy = self.copy(epoch)
        if copy is not None:
            return self.augmented(ids[part], copy)
        pictures = [self._cache.get(one) for one in ids]
        if self._train.augmentation == "randaugment":  # erases with noise after normalising
            return self._train(pictures, generator)[part]
        return self._train.squares(pictures, generator, part)

    def copy(self, epoch: int) -> int | None:
        """Which augmented copy an epoch takes, from 0; None if there is no fixed number of them."""
        return None if self._copies is None else epoch % self._copies

    def augmented(self, ids: Sequence[str], copy: int) -> Tensor:
        """Pixels of one augmented copy, drawn by study and number alone, for ``pixels``."""
        return torch.cat([self._drawn(one, copy) for one in ids])

    def source(self, study_id: str, copy: int | None = None) -> str:
        """What the pixels of a study are made of, but for size and normalisation.

        Raises:
            DataError: The picture is missing or unreadable.
        """
        way = "" if copy is None else f" {self._train.augmentation} {copy}"
        return self._cache.source(study_id) + way

    def _drawn(self, study_id: str, copy: int) -> Tensor:
        generator = torch.Generator().manual_seed(copy_seed(study_id, copy))
        picture = [self._cache.get(study_id)]
        if self._train.augmentation == "randaugment":
            return self._train(picture, generator)
        return self._train.squares(picture, generator)

    def evaluation(self, ids: Sequence[str]) -> Tensor:
        """Centre-cropped pixels for ``pixels``."""
        return self._evaluate.squares([self._cache.get(one) for one in ids])

    def pixels(self, inputs: Tensor) -> Tensor:
        """What the model takes: float32 of shape (studies, channels, side, side).

        Args:
            inputs: What ``training`` or ``evaluation`` gave, on any device.
        """
        return self._evaluate.normal(inputs) if inputs.dtype == torch.uint8 else inputs

    def forward(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Run the whole model."""
        logits: Tensor = model(self.pixels(inputs))
        return logits
