"""Outputs of the frozen prefix of a run's model, computed once per image and stored on disk.

If only the head trains, these are its features or tokens; for a run whose first blocks are frozen,
the tokens before the first block that trains. Runs with another seed, learning rate or label
fraction reuse them.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from core.classifier.build import evaluation_transform
from core.classifier.weights import digest
from core.config.defaults import EVALUATION_BATCH
from core.config.run import ResolvedSpec
from core.data.cache import disk_space
from core.data.cache.activations import Activations, InMemory
from core.data.cache.image_cache import ImageCache
from core.data.transforms import TrainTransform
from core.errors import DataError
from core.formatting import gigabytes
from core.models.backbones.card import BackboneCard
from core.models.tuning import frozen_prefix
from core.models.tuning.frozen_prefix import Cut
from core.models.tuning.registry import tuning_method
from core.training.batches import WHOLE, chunks
from core.training.inputs import InputSource, PixelInputs

FORMAT = 1
"""Version of the stored arrays; raised whenever the same network would store other bytes."""

LOOKUP_BATCH = 1024
"""Arrays that are looked up before the next check whether to stop."""

Version = tuple[str, int | None]
"""A study, and the number of its augmented copy; None for the image without augmentation."""


class _NoSpaceError(Exception):
    """The activations cannot be stored on disk."""


class CachedFeatures:
    """Input source of stored activations: only the layers after the frozen prefix run at each step.

    Batches whose activations are not stored are returned as pixels, for which the whole model runs.

    Args:
        pixels: Source of the images.
        cut: The model, divided into frozen prefix and trainable rest.
        folder: Folder of the activations of this prefix, shared between runs.
        accelerator: Device and precision.
        copies: Number of augmented copies of each training image; by default none.
        description: What the activations are, for log messages.
        precise: Run the layers after the prefix in float32, whatever the precision of the run.
    """

    def __init__(
        self,
        pixels: PixelInputs,
        cut: Cut,
        folder: Path,
        accelerator: Accelerator,
        copies: int | None = None,
        description: str = "features",
        precise: bool = False,
    ) -> None:
        self.pixels, self.folder = pixels, folder
        self._cut, self._accelerator, self._copies = cut, accelerator, copies
        self._description, self._precise = description, precise
        mixed = accelerator.mixed_precision != "no"
        # Tokens are stored in the precision of autocast; features are small enough for float32.
        self._tokens = len(cut.shape) > 1
        self._dtype = torch.bfloat16 if mixed and self._tokens else torch.float32
        self._size = math.prod(cut.shape) * self._dtype.itemsize
        self._store: Activations | InMemory | None = None
        self._known: set[Version] = set()

    @property
    def head_only(self) -> bool:
        """Whether only the classification head runs at each step."""
        return self._cut.block is None

    def prepare(
        self,
        training: Sequence[str],
        others: Sequence[str],
        progress: Callable[[int, int], None],
        stop: Callable[[], bool],
        log: Callable[[str], None],
    ) -> bool:
        """Compute the activations that are not stored yet; the model must be in evaluation mode.

        If the disk has too little space, features are kept in memory, and tokens are computed at
        each step.

        Args:
            training: Studies for training.
            others: Studies that are only predicted.
            progress: Receives the numbers of finished and of all activations.
            stop: Checked before each batch; finished batches are kept.
            log: Receives a message on what is computed and where it is stored.

        Returns:
            False if it stopped before the end.

        Raises:
            DataError: An image is missing or unreadable.
        """
        versions = self._versions(training, others)
        try:
            return self._fill(versions, progress, stop, log)
        except _NoSpaceError as error:
            if self._tokens:
                log(f"{error} The {self._description} are computed at each step instead.")
                return True
            log(f"{error} They are kept in memory, for this run only.")
            self._store = InMemory()
            self._known.clear()
            return self._fill(versions, progress, stop, log)

    def training(
        self, ids: Sequence[str], generator: torch.Generator, part: slice = WHOLE, epoch: int = 0
    ) -> Tensor:
        """Activations of shape (studies, …), or pixels if they are not stored."""
        copy = self.pixels.copy(epoch)
        stored = self._stacked([(study, copy) for study in ids[part]])
        return self.pixels.training(ids, generator, part, epoch) if stored is None else stored

    def evaluation(self, ids: Sequence[str]) -> Tensor:
        """Activations of shape (studies, …), or pixels if they are not stored."""
        stored = self._stacked([(study, None) for study in ids])
        return self.pixels.evaluation(ids) if stored is None else stored

    def forward(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Logits: of activations by the layers after the prefix, of pixels by the whole model."""
        if inputs.ndim == 4:
            return self.pixels.forward(model, inputs)
        if self._precise:
            with torch.autocast(inputs.device.type, enabled=False):
                return self._cut.after(inputs.float())
        return self._cut.after(inputs.float())

    def _versions(self, training: Sequence[str], others: Sequence[str]) -> list[Version]:
        copies = [None] if self._copies is None else range(self._copies)
        versions: list[Version] = [(study, copy) for copy in copies for study in training]
        return list(dict.fromkeys([*versions, *((study, None) for study in others)]))

    def _fill(
        self,
        versions: Sequence[Version],
        progress: Callable[[int, int], None],
        stop: Callable[[], bool],
        log: Callable[[str], None],
    ) -> bool:
        store = self._opened(log)
        missing = self._missing(versions, stop)
        if missing is None:
            return False
        if not missing:
            log(f"The {self._description} of {len(versions):,} images are in the cache.")
            return True
        if not store.affords(len(missing)):
            size = gigabytes(len(missing) * self._size)
            raise _NoSpaceError(
                f"The {self._description} of {len(missing):,} images need {size}: more than "
                f"{disk_space.SHARE_OF_FREE:.0%} of the free space in {self.folder}, or more than "
                f"its limit ({disk_space.LIMIT})."
            )
        log(f"Computes the {self._description} of {len(missing):,} images, once.")
        done = 0
        for part in _batches_of_process(missing):
            if stop():
                return False
            progress(done, len(missing))
            self._compute(part)
            done += len(part)
        return True

    def _opened(self, log: Callable[[str], None]) -> Activations | InMemory:
        if self._store is None:
            with _disk_errors():
                self._store = Activations(self.folder, self._size)
            if self._store.removed:
                log(
                    f"Removed {gigabytes(self._store.removed)} of other networks' activations, "
                    f"unused for {disk_space.UNUSED_DAYS} days."
                )
        return self._store

    def _missing(
        self, versions: Sequence[Version], stop: Callable[[], bool]
    ) -> list[Version] | None:
        """The versions that are not stored; None if it stopped before the end."""
        missing = []
        for number, part in enumerate(chunks(versions, LOOKUP_BATCH)):
            if number and stop():
                return None
            missing += self._absent([version for version in part if version not in self._known])
        return missing

    def _absent(self, versions: Sequence[Version]) -> list[Version]:
        assert self._store is not None
        with _disk_errors():
            stored = self._store.find(self._sources(versions))
        self._known |= {version for version in versions if _name(version) in stored}
        return [version for version in versions if version not in self._known]

    def _compute(self, versions: Sequence[Version]) -> None:
        assert self._store is not None
        # Looked up again: another run may have computed some of them meanwhile.
        for copy, group in itertools.groupby(self._absent(versions), key=lambda pair: pair[1]):
            absent = list(group)
            ids = [study for study, _ in absent]
            with torch.inference_mode(), self._accelerator.autocast():
                inputs = (
                    self.pixels.evaluation(ids)
                    if copy is None
                    else self.pixels.augmented(ids, copy)
                )
                outputs = self._cut.before(self.pixels.pixels(inputs.to(self._accelerator.device)))
            rows = outputs.to(self._dtype).flatten(1).cpu().contiguous().view(torch.uint8).numpy()
            with _disk_errors():
                self._store.add(self._sources(absent), rows)
            self._known |= set(absent)

    def _stacked(self, versions: Sequence[Version]) -> Tensor | None:
        if self._store is None or not self._known.issuperset(versions):
            return None
        rows = torch.from_numpy(np.stack([self._store.get(_name(one)) for one in versions]))
        return rows.view(self._dtype).reshape(len(versions), *self._cut.shape)

    def _sources(self, versions: Sequence[Version]) -> dict[str, str]:
        return {_name(version): self.pixels.source(*version) for version in versions}


def input_source(
    spec: ResolvedSpec,
    card: BackboneCard,
    images: ImageCache,
    model: nn.Module,
    accelerator: Accelerator,
    cache: Path,
    log: Callable[[str], None],
) -> InputSource:
    """Choose a run's input source: cached features if they give the same result, otherwise pixels.

    They do not give the same result if each epoch draws new crops, if the frozen blocks are random
    in training, or if several processes each see other studies in every epoch.

    Args:
        spec: The run.
        card: Its backbone's card.
        images: Its decoded images.
        model: The adapted model.
        accelerator: Device and precision.
        cache: The workspace's cache.
        log: Receives a message if frozen blocks have to be computed at each step.
    """
    size, train = spec.model.input_size or card.input_size, spec.train
    evaluate = evaluation_transform(card, size)
    augment = TrainTransform(
        size, card.mean, card.std, card.channels, train.augmentation,
        crop=train.crop, flip=train.flip, erase=train.erase, resize=evaluate.resize,
    )  # fmt: skip
    pixels = PixelInputs(images, augment, evaluate, train.augmented_copies)
    copies = None if train.augmentation == "none" else train.augmented_copies
    new_each_epoch = train.augmentation != "none" and copies is None
    if new_each_epoch or accelerator.num_processes > 1 or spec.adapter.imported is not None:
        return pixels
    frozen, total = frozen_prefix.frozen_blocks(model)
    method = tuning_method(spec.adapter.method)
    head_only = method.frozen_backbone  # the backbone is always in evaluation mode
    if method.network is not None or (not head_only and frozen < frozen_prefix.WORTH * total):
        return pixels
    cut = frozen_prefix.cut(model, size, card.channels, accelerator.autocast)
    if cut is None or (cut.block is None) != head_only:
        return pixels
    description = f"outputs of the first {frozen} of {total} blocks"
    if head_only:
        description = "features" if len(cut.shape) == 1 else "tokens"
    if not head_only and frozen_prefix.draws(model, frozen):
        log(
            f"The first {frozen} of {total} blocks are frozen but use stochastic depth, so that "
            "they are computed at each step. With --drop-path 0 they are computed once."
        )
        return pixels
    folder = cache.absolute() / disk_space.FEATURES / _key(card, size, model, cut, accelerator)
    needed = None if copies is None else min(copies, train.epochs)
    return CachedFeatures(
        pixels, cut, folder, accelerator, needed, description, precise=method.closed_form
    )


def _key(
    card: BackboneCard, size: int, model: nn.Module, cut: Cut, accelerator: Accelerator
) -> str:
    """Hash of everything that the activations depend on apart from the image."""
    state = model.state_dict()
    parts = (
        FORMAT, card.architecture, card.arguments, card.mean, card.std, card.channels,
        card.eval_resize, card.input_size, size, cut.block, cut.shape,
        accelerator.mixed_precision, accelerator.device.type,
        digest({name: state[name] for name in cut.frozen}),
    )  # fmt: skip
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


def _name(version: Version) -> str:
    study, copy = version
    return study if copy is None else f"{copy}\n{study}"


def _batches_of_process(versions: Sequence[Version]) -> Iterator[Sequence[Version]]:
    """Batches in an order that differs between processes.

    Runs that compute the same activations at the same time then share the work: each finds what
    the others have already stored.
    """
    parts = list(chunks(versions, EVALUATION_BATCH))
    start = os.getpid() * 7919 % len(parts)
    yield from parts[start:] + parts[:start]


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise _NoSpaceError(error.cause) from error
