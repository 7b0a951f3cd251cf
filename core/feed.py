"""What the training loop is fed: batches of pixels, or of features computed once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.data.cache import ImageCache
from core.data.transforms import EvalTransform, TrainTransform

EVALUATION_BATCH = 128
WHOLE = slice(None)


class Feed(Protocol):
    """Inputs of the model for given studies."""

    def training(
        self, ids: Sequence[str], generator: torch.Generator, part: slice = WHOLE
    ) -> Tensor:
        """Inputs of shape (studies, …) on the host, augmented by this generator alone.

        Args:
            ids: A batch.
            generator: What is drawn for a study depends on its place in the batch.
            part: The studies that are wanted.
        """

    def evaluation(self, ids: Sequence[str]) -> Tensor:
        """Inputs of shape (studies, …) on the host, without augmentation."""

    def forward(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Logits of shape (studies, findings)."""


class PixelFeed:
    """Pictures from the cache, cropped and flipped on the host, normalised on the device."""

    def __init__(self, cache: ImageCache, train: TrainTransform, evaluate: EvalTransform) -> None:
        self._cache, self._train, self._evaluate = cache, train, evaluate

    def training(
        self, ids: Sequence[str], generator: torch.Generator, part: slice = WHOLE
    ) -> Tensor:
        """Augmented pixels for ``pixels``."""
        if self._train.augmentation == "none":
            return self.evaluation(ids[part])
        pictures = [self._cache.get(one) for one in ids]
        if self._train.augmentation == "randaugment":  # erases with noise after normalising
            return self._train(pictures, generator)[part]
        return self._train.squares(pictures, generator, part)

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


class FeatureFeed:
    """Features of a frozen backbone, computed once a study; only the head runs at every step.

    Args:
        pixels: Where the pictures come from.
        features: Maps pixels to the input of ``head``; run without gradients.
        head: Maps features to logits.
        device: Where ``features`` runs.
    """

    def __init__(
        self,
        pixels: PixelFeed,
        features: Callable[[Tensor], Tensor],
        head: Callable[[Tensor], Tensor],
        device: torch.device,
    ) -> None:
        self._pixels, self._features, self._head = pixels, features, head
        self._device = device
        self._known: dict[str, NDArray[np.float32]] = {}

    def prepare(
        self, ids: Sequence[str], progress: Callable[[int, int], None], stop: Callable[[], bool]
    ) -> bool:
        """Compute what is not known yet; False if ``stop`` said so before the end."""
        missing = [one for one in ids if one not in self._known]
        for done, batch in enumerate(chunks(missing, EVALUATION_BATCH)):
            if stop():
                return False
            progress(done * EVALUATION_BATCH, len(missing))
            with torch.inference_mode():
                inputs = self._pixels.evaluation(batch).to(self._device)
                features = self._features(self._pixels.pixels(inputs)).float().cpu()
            self._known.update(zip(batch, features.numpy(), strict=True))
        return True

    def training(
        self, ids: Sequence[str], generator: torch.Generator, part: slice = WHOLE
    ) -> Tensor:
        """Features of shape (studies, width)."""
        return self.evaluation(ids[part])

    def evaluation(self, ids: Sequence[str]) -> Tensor:
        """Features of shape (studies, width)."""
        self.prepare(ids, lambda done, total: None, lambda: False)
        return torch.from_numpy(np.stack([self._known[one] for one in ids]))

    def forward(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Run the head alone."""
        return self._head(inputs)


def chunks(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Cut a sequence into runs of at most ``size``."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def step_seed(seed: int, epoch: int, step: int) -> int:
    """A seed for one step that depends on nothing that happened before it.

    With every random draw of a step seeded so, a resumed run needs no saved random state to go on
    exactly as if it had never been interrupted.
    """
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)[0] >> 1)


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
