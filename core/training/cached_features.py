"""What the frozen part of a run's model makes of its pictures, computed once and kept on disk.

Of a linear probe these are the features, of a run whose first blocks are frozen the tokens before
the first block that trains. Another seed, rate or label fraction finds them there.
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
from core.config.run import RunSpec
from core.data.cache import disk_space
from core.data.cache.activations import Activations, InMemory
from core.data.cache.image_cache import ImageCache
from core.data.transforms import TrainTransform
from core.errors import DataError
from core.models.backbones.card import BackboneCard
from core.models.tuning import frozen_prefix
from core.models.tuning.frozen_prefix import Cut
from core.training.batches import WHOLE, chunks
from core.training.inputs import InputSource, PixelInputs

FORM = 1
"""Raised whenever the same network would leave other bytes."""

CHECKED = 1024
"""Arrays that are looked up at once, before the user's wish to stop is heard."""

Version = tuple[str, int | None]
"""A study, and which augmented copy of it; None for the picture as it is."""


class _NoRoomError(Exception):
    """Activations cannot be kept where they were to be."""


class CachedFeatures:
    """Activations of a frozen part, computed once; only what follows it runs at every step.

    Batches that are not known come as pixels, and the whole model runs.

    Args:
        pixels: Where the pictures come from.
        cut: The model in two halves.
        folder: Where the activations of this frozen part are kept, for this run and others.
        accelerator: Device and precision.
        copies: Augmented copies of each training picture that the run takes; by default none.
        words: What the activations are, for people.
    """

    def __init__(
        self,
        pixels: PixelInputs,
        cut: Cut,
        folder: Path,
        accelerator: Accelerator,
        copies: int | None = None,
        words: str = "features",
    ) -> None:
        self.pixels, self.folder = pixels, folder
        self._cut, self._accelerator, self._copies, self._words = cut, accelerator, copies, words
        mixed = accelerator.mixed_precision != "no"
        self._dtype = torch.bfloat16 if mixed and not self.head_alone else torch.float32
        self._size = math.prod(cut.shape) * self._dtype.itemsize
        self._store: Activations | InMemory | None = None
        self._known: set[Version] = set()

    @property
    def head_alone(self) -> bool:
        """Whether the classifier is all that runs at every step."""
        return self._cut.block is None

    def prepare(
        self,
        training: Sequence[str],
        others: Sequence[str],
        progress: Callable[[int, int], None],
        stop: Callable[[], bool],
        log: Callable[[str], None],
    ) -> bool:
        """Compute what nobody has computed yet; the model must be in evaluation mode.

        Where the disk has no room, features are kept in memory, and tokens not at all.

        Args:
            training: Studies that will be asked for in training.
            others: Those that will be predicted alone.
            progress: Told how many of how many are computed.
            stop: Asked after each batch; what is computed by then is kept.
            log: Told where they are kept, or why they are not.

        Returns:
            False if ``stop`` said so before the end.

        Raises:
            DataError: A picture is missing or unreadable.
        """
        versions = self._versions(training, others)
        try:
            return self._fill(versions, progress, stop, log)
        except _NoRoomError as error:
            if not self.head_alone:
                log(f"{error} The {self._words} are computed at every step instead.")
                return True
            log(f"{error} They are kept in memory, for this run alone.")
            self._store = InMemory()
            self._known.clear()
            return self._fill(versions, progress, stop, log)

    def training(
        self, ids: Sequence[str], generator: torch.Generator, part: slice = WHOLE, epoch: int = 0
    ) -> Tensor:
        """Activations of shape (studies, …), or pixels where they are not known."""
        copy = self.pixels.copy(epoch)
        known = self._stacked([(one, copy) for one in ids[part]])
        return self.pixels.training(ids, generator, part, epoch) if known is None else known

    def evaluation(self, ids: Sequence[str]) -> Tensor:
        """Activations of shape (studies, …), or pixels where they are not known."""
        known = self._stacked([(one, None) for one in ids])
        return self.pixels.evaluation(ids) if known is None else known

    def forward(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Run what follows the frozen part; of pixels the whole model."""
        if inputs.ndim == 4:
            return self.pixels.forward(model, inputs)
        return self._cut.after(inputs.float())

    def _versions(self, training: Sequence[str], others: Sequence[str]) -> list[Version]:
        copies = [None] if self._copies is None else range(self._copies)
        found: list[Version] = [(one, copy) for copy in copies for one in training]
        return list(dict.fromkeys([*found, *((one, None) for one in others)]))

    def _fill(
        self,
        versions: Sequence[Version],
        progress: Callable[[int, int], None],
        stop: Callable[[], bool],
        log: Callable[[str], None],
    ) -> bool:
        with _no_room():
            if self._store is None:
                self._store = Activations(self.folder, self._size)
                if self._store.removed:
                    log(
                        f"Removed {self._store.removed / 1e9:.2f} GB of other networks' "
                        f"activations, unused for {disk_space.UNUSED_DAYS} days."
                    )
        missing = self._look_up(versions, stop)
        if missing is None:
            return False
        if not missing:
            log(f"The {self._words} of {len(versions):,} pictures are in the cache.")
            return True
        if not self._store.affords(len(missing)):
            raise _NoRoomError(
                f"The {self._words} of {len(missing):,} pictures would take "
                f"{len(missing) * self._size / 1e9:.2f} GB: more than {disk_space.SHARE_OF_FREE:.0%} of "
                f"what is free in {self.folder}, or than its limit ({disk_space.LIMIT})."
            )
        log(f"Computes the {self._words} of {len(missing):,} pictures, once.")
        done = 0
        for part in _in_turn(missing):
            if stop():
                return False
            progress(done, len(missing))
            self._compute(part)
            done += len(part)
        return True

    def _look_up(
        self, versions: Sequence[Version], stop: Callable[[], bool]
    ) -> list[Version] | None:
        """What is not known yet, or None if it shall stop; another run may have computed some."""
        missing = []
        for number, part in enumerate(chunks(versions, CHECKED)):
            if number and stop():
                return None
            missing += self._absent([one for one in part if one not in self._known])
        return missing

    def _absent(self, versions: Sequence[Version]) -> list[Version]:
        assert self._store is not None
        with _no_room():
            found = self._store.find(self._sources(versions))
        self._known |= {one for one in versions if _name(one) in found}
        return [one for one in versions if one not in self._known]

    def _compute(self, versions: Sequence[Version]) -> None:
        assert self._store is not None
        for copy, group in itertools.groupby(self._absent(versions), key=lambda one: one[1]):
            some = list(group)
            ids = [study for study, _ in some]
            with torch.inference_mode(), self._accelerator.autocast():
                made = (
                    self.pixels.evaluation(ids)
                    if copy is None
                    else self.pixels.augmented(ids, copy)
                )
                found = self._cut.before(self.pixels.pixels(made.to(self._accelerator.device)))
            rows = found.to(self._dtype).flatten(1).cpu().contiguous().view(torch.uint8).numpy()
            with _no_room():
                self._store.add(self._sources(some), rows)
            self._known |= set(some)

    def _stacked(self, versions: Sequence[Version]) -> Tensor | None:
        if self._store is None or not self._known.issuperset(versions):
            return None
        rows = torch.from_numpy(np.stack([self._store.get(_name(one)) for one in versions]))
        return rows.view(self._dtype).reshape(len(versions), *self._cut.shape)

    def _sources(self, versions: Sequence[Version]) -> dict[str, str]:
        return {_name(one): self.pixels.source(*one) for one in versions}


def input_source(
    spec: RunSpec,
    card: BackboneCard,
    pictures: ImageCache,
    model: nn.Module,
    accelerator: Accelerator,
    cache: Path,
    log: Callable[[str], None],
) -> InputSource:
    """Choose what a run's loop is fed: activations of the frozen part where that gives the same.

    It does not where each epoch draws new crops, where the frozen blocks are random in training,
    or where several processes each see other studies in every epoch.

    Args:
        spec: The run, resolved.
        card: Its backbone.
        pictures: Its pictures.
        model: The adapted model.
        accelerator: Device and precision.
        cache: The workspace's cache.
        log: Told of frozen blocks that have to be computed at every step.
    """
    size, train = spec.model.input_size or card.input_size, spec.train
    assert train.augmentation is not None
    pixels = PixelInputs(
        pictures,
        TrainTransform(size, card.mean, card.std, card.channels, augmentation=train.augmentation),
        evaluation_transform(card, size),
        train.augmented_copies,
    )
    copies = None if train.augmentation == "none" else train.augmented_copies
    new_each_epoch = train.augmentation != "none" and copies is None
    if new_each_epoch or accelerator.num_processes > 1 or spec.adapter.imported is not None:
        return pixels
    frozen, total = frozen_prefix.frozen_blocks(model)
    linear = spec.adapter.method == "linear"  # its backbone is in evaluation mode throughout
    if not linear and frozen < frozen_prefix.WORTH * total:
        return pixels
    cut = frozen_prefix.cut(model, size, card.channels, accelerator.autocast)
    if cut is None or (cut.block is None) != linear:
        return pixels
    words = "features" if linear else f"outputs of the first {frozen} of {total} blocks"
    if not linear and frozen_prefix.draws(model, frozen):
        log(
            f"The first {frozen} of {total} blocks are frozen, but stochastic depth acts in them: "
            "they are computed at every step. With --drop-path 0 they are computed once."
        )
        return pixels
    folder = cache.absolute() / disk_space.FEATURES / _key(card, size, model, cut, accelerator)
    needed = None if copies is None else min(copies, train.epochs)
    return CachedFeatures(pixels, cut, folder, accelerator, needed, words)


def _key(
    card: BackboneCard, size: int, model: nn.Module, cut: Cut, accelerator: Accelerator
) -> str:
    """Hash of all that the activations depend on beside the picture."""
    state = model.state_dict()
    told = (
        FORM, card.architecture, card.arguments, card.mean, card.std, card.channels,
        card.eval_resize, card.input_size, size, cut.block, cut.shape,
        accelerator.mixed_precision, accelerator.device.type,
        digest({name: state[name] for name in cut.frozen}),
    )  # fmt: skip
    return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:16]


def _name(version: Version) -> str:
    study, copy = version
    return study if copy is None else f"{copy}\n{study}"


def _in_turn(versions: Sequence[Version]) -> Iterator[Sequence[Version]]:
    """Batches, beginning elsewhere in each process: runs that compute the same share the work."""
    parts = list(chunks(versions, EVALUATION_BATCH))
    begin = os.getpid() * 7919 % len(parts)
    yield from parts[begin:] + parts[:begin]


@contextlib.contextmanager
def _no_room() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise _NoRoomError(error.cause) from error
