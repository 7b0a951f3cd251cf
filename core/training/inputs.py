"""Input pipeline of the training loop: batches of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from core.data.cache.image_cache import ImageCache
from core.data.transforms import EvalTransform, TrainTransform
from core.training.batches import WHOLE, copy_seed


class InputSource(Protocol):
    """Provides the model's input for given studies: pixels or cached features."""

    def training(
        self, ids: Sequence[str], generator: torch.Generator, part: slice = WHOLE, epoch: int = 0
    ) -> Tensor:
        """Inputs of shape (studies, …) on the host, augmented with this generator only.

        Args:
            ids: A batch.
            generator: Source of the augmentation, which depends on a study's place in the batch.
            part: The studies to return.
            epoch: Epoch from 0. With a fixed number of augmented copies, the epoch selects the copy
                and the generator is not used.
        """

    def evaluation(self, ids: Sequence[str]) -> Tensor:
        """Inputs of shape (studies, …) on the host, without augmentation."""

    def forward(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Logits of shape (studies, findings)."""


class PixelInputs:
    """Images from the cache, cropped and flipped on the host, normalised on the device.

    Args:
        cache: The decoded images.
        train: Transform for training.
        evaluate: Transform for evaluation.
        copies: Number of augmented copies of each image, used in turn by the epochs; by default
            each epoch draws new augmentations.
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
        """Augmented images, input for ``pixels``."""
        if self._train.augmentation == "none":
            return self.evaluation(ids[part])
        copy = self.copy(epoch)
        if copy is not None:
            return self.augmented(ids[part], copy)
        images = [self._cache.get(study) for study in ids]
        if self._train.augmentation == "randaugment":  # its noise is added after normalisation
            return self._train(images, generator)[part]
        return self._train.squares(images, generator, part)

    def copy(self, epoch: int) -> int | None:
        """The augmented copy that an epoch uses, from 0; None without a fixed number of copies."""
        return None if self._copies is None else epoch % self._copies

    def augmented(self, ids: Sequence[str], copy: int) -> Tensor:
        """Input for ``pixels`` of one augmented copy, determined by study and copy alone."""
        return torch.cat([self._augmented(study, copy) for study in ids])

    def source(self, study_id: str, copy: int | None = None) -> str:
        """Identifies the pixels of a study, apart from size and normalisation.

        Raises:
            DataError: The image is missing or unreadable.
        """
        variant = "" if copy is None else f" {self._train.variant} {copy}"
        return self._cache.source(study_id) + variant

    def evaluation(self, ids: Sequence[str]) -> Tensor:
        """Centre-cropped images, input for ``pixels``."""
        return self._evaluate.squares([self._cache.get(study) for study in ids])

    def pixels(self, inputs: Tensor) -> Tensor:
        """The model's input: float32 of shape (studies, channels, side, side).

        Args:
            inputs: Output of ``training`` or ``evaluation``, on any device.
        """
        return self._evaluate.normal(inputs) if inputs.dtype == torch.uint8 else inputs

    def forward(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Run the whole model."""
        logits: Tensor = model(self.pixels(inputs))
        return logits

    def _augmented(self, study_id: str, copy: int) -> Tensor:
        generator = torch.Generator().manual_seed(copy_seed(study_id, copy))
        image = [self._cache.get(study_id)]
        if self._train.augmentation == "randaugment":
            return self._train(image, generator)
        return self._train.squares(image, generator)
