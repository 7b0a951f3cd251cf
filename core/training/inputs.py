"""Input pipeline of the training loop: batches of pixels, or cached features of them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from core.data.cache.image_cache import ImageCache
from core.data.transforms import EvalTransform, TrainTransform

EVALUATION_BATCH = 128
WHOLE = slice(None)
T = TypeVar("T")


class Feed(Protocol):
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


class PixelFeed:
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


def chunks(ids: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a sequence into runs of at most ``size``."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def step_seed(seed: int, epoch: int, step: int) -> int:
    """A seed for one step that depends on nothing that happened before it.

    With every random draw of a step seeded so, a resumed run needs no saved random state to go on
    exactly as if it had never been interrupted.
    """
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)[0] >> 1)


def copy_seed(study_id: str, copy: int) -> int:
    """A seed for one augmented copy of one study, the same in every run."""
    drawn = hashlib.blake2b(f"{copy}/{study_id}".encode(), digest_size=8).digest()
    return int.from_bytes(drawn, "little") >> 1


def batches(ids: Sequence[str], batch_size: int, seed: int, epoch: int) -> list[list[str]]:
    """Shuffle one epoch's studies and cut them into batches of nearly equal size.

    Equal sizes leave no small last batch, whose noisy gradient would count as much as the others'.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(ids))
    steps = max(1, -(-len(ids) // batch_size))
    return [[ids[i] for i in part] for part in np.array_split(order, steps)]


def pieces_of(count: int, pieces: int) -> list[slice]:
    """Cut ``count`` studies into so many consecutive pieces of nearly equal size."""
    ends = [round(i * count / pieces) for i in range(pieces + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def one_ahead(load: Callable[[int], Tensor], start: int, end: int) -> Iterator[tuple[int, Tensor]]:
    """Yield ``(i, load(i))`` while the next one is being loaded in another thread."""
    with ThreadPoolExecutor(1, thread_name_prefix="feed") as thread:
        coming = thread.submit(load, start) if start < end else None
        for i in range(start, end):
            assert coming is not None
            ready = coming.result()
            coming = thread.submit(load, i + 1) if i + 1 < end else None
            yield i, ready
