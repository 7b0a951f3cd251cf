"""Each image decoded once: uint8 copies with a fixed shorter side, memory-mapped from the disk."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.data.base import MISSING, ChestDataset
from core.data.cache import disk_space
from core.data.cache.decoder_pool import (
    LARGEST_BATCH,
    DecodedBatch,
    DecoderPool,
    DecodeTask,
    PoolStartError,
    batches,
)
from core.data.cache.shards import Location, Shards, ShardWriter
from core.data.datasets.files import check_missing
from core.errors import DataError

ALONE_SECONDS = 1.0
"""Time that this process decodes by itself before it starts others for a small amount of work."""

WORTH_SECONDS = 2.0
"""Remaining work below which starting other processes is not worth it. The more work remains, the
sooner they are started."""

PAUSE_SECONDS = 0.25
"""Interval at which this process flushes decoded images and checks whether to stop."""

Progress = Callable[[int, int], None]


def cache_side(input_size: int) -> int:
    """Shorter side of the cached images for an input size: 224 → 256, 128 → 144."""
    return round(input_size * 8 / 7 / 16) * 16


class ImageCache:
    """Copies of a data set's images, made when they are missing.

    The key of a copy is study, source and reader version: a changed file is decoded again, and any
    number of data sets share one folder. Any number of processes may fill it at the same time, and
    may be killed.

    Args:
        folder: The cache's folder; it may be deleted when no run uses it.
        dataset: The data set.
        short_side: Shorter side of the copies, in pixels.

    Raises:
        DataError: The folder cannot be created or written, or is damaged.
    """

    def __init__(self, folder: Path, dataset: ChestDataset, short_side: int) -> None:
        self.dataset = dataset
        self.short_side = short_side
        copies = Path(folder).absolute() / disk_space.IMAGES / f"{dataset.name}-{short_side}"
        self._task = DecodeTask(dataset, short_side, copies)
        self._shards = Shards(copies)
        self._locations: dict[str, Location] = {}

    @property
    def folder(self) -> Path:
        """The folder of the copies of this data set and side."""
        return self._shards.folder

    def size(self) -> int:
        """Bytes of the copies of this data set and side."""
        return disk_space.size_of(self.folder)

    def ensure(
        self,
        ids: Sequence[str],
        progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
        faults: dict[str, str] | None = None,
    ) -> bool:
        """Make the copies that are missing, on all cores.

        Args:
            ids: The studies.
            progress: Called with the number of existing copies and of all studies.
            should_stop: Called several times per second; copies made until then are kept.
            faults: If given, filled with the reasons why images cannot be read, by study, instead
                of raising an error for them.

        Returns:
            False if ``should_stop`` returned True before all copies existed.

        Raises:
            DataError: Images are missing or unreadable, with counts and examples; or the disk or
                the cache's limit is too small. The other images are cached nevertheless.
        """
        ids = list(dict.fromkeys(ids))
        missing, absent = self._missing(ids)
        if faults is None:
            self._check_absent(absent, len(ids))
        unreadable = dict.fromkeys(absent, MISSING)
        if missing:
            self._shards.sweep()
            disk_space.check_disk_space(self.folder, 0)
        done = len(ids) - len(missing)
        report = progress or (lambda done, total: None)
        stop = should_stop or (lambda: False)
        report(done, len(ids))
        for batch in self._decoded(missing):
            if batch is not None:
                self._add(batch.locations)
                unreadable |= batch.faults
                done += len(batch.locations) + len(batch.faults)
                report(done, len(ids))
            if stop():
                return False
        if faults is not None:
            faults |= unreadable
        elif unreadable:
            raise _unreadable(self.dataset.title, unreadable, len(ids))
        return True

    def get(self, study_id: str) -> NDArray[np.uint8]:
        """Return one copy of shape (height, width), read-only; made now if it does not exist.

        Raises:
            DataError: The image is missing or unreadable.
        """
        return self._shards.pixels(self._location(study_id))

    def source(self, study_id: str) -> str:
        """Return a text that identifies the pixels of a copy.

        Raises:
            DataError: The image is missing or unreadable.
        """
        return f"{self.dataset.name} {self.short_side} {self._location(study_id).source}"

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Return the studies without a copy of their current source.

        Raises:
            DataError: Files do not exist, with counts and examples.
        """
        ids = list(dict.fromkeys(ids))
        missing, absent = self._missing(ids)
        self._check_absent(absent, len(ids))
        return missing

    def _missing(self, ids: list[str]) -> tuple[list[str], list[str]]:
        """Return the studies without a copy, and those whose file does not exist."""
        sources, absent = {}, []
        for study in ids:
            try:
                sources[study] = self._task.source(study)
            except DataError:
                absent.append(study)
        self._locations.update(self._shards.find(sources))
        return [study for study, source in sources.items() if self._source(study) != source], absent

    def _check_absent(self, absent: list[str], total: int) -> None:
        check_missing(self.dataset.title, absent, total, "Restore the files.")

    def _source(self, study_id: str) -> str | None:
        location = self._locations.get(study_id)
        return None if location is None else location.source

    def _location(self, study_id: str) -> Location:
        if study_id not in self._locations:
            self.ensure([study_id])
        return self._locations[study_id]

    def _add(self, locations: list[Location]) -> None:
        if locations:
            self._shards.add(locations)
            self._locations.update((location.id, location) for location in locations)

    def _decoded(self, ids: list[str]) -> Iterator[DecodedBatch | None]:
        """Decode in this process for a moment; if much work remains, start others."""
        done, size = 0, 0
        for batch in self._decoded_here(ids, ALONE_SECONDS):
            yield batch
            done += len(batch.locations) + len(batch.faults)
            size += sum(location.height * location.width for location in batch.locations)
        left = ids[done:]
        if not left:
            return
        disk_space.check_disk_space(self.folder, int(size / done * len(left)))
        try:
            yield from self._decoded_in_pool(left)
        except PoolStartError:
            yield from self._decoded_here(left, math.inf)

    def _decoded_here(self, ids: list[str], patience: float) -> Iterator[DecodedBatch]:
        """Decode in this process; end early if the rest is worth starting others.

        Args:
            ids: The studies.
            patience: Seconds of decoding after which ``WORTH_SECONDS`` of work are worth it.
        """
        started, done, count = time.monotonic(), 0, 4
        with ShardWriter(self._shards.folder) as writer:
            while done < len(ids):
                yield self._task.decode(ids[done : done + count], writer, self._shards)
                done = min(done + count, len(ids))
                spent = time.monotonic() - started
                left = spent / done * (len(ids) - done)
                if left > WORTH_SECONDS and spent * left > patience * WORTH_SECONDS:
                    return
                count = max(1, round(done / spent * PAUSE_SECONDS))

    def _decoded_in_pool(self, ids: list[str]) -> Iterator[DecodedBatch | None]:
        # Another run may decode the same images: with different first images, the two share the
        # work.
        first = os.getpid() * 7919 % len(ids)
        workers = min(_cores(), math.ceil(len(ids) / LARGEST_BATCH))
        pool = DecoderPool(self._task, workers)
        yield from pool.run(batches(ids[first:] + ids[:first], workers))


def _unreadable(title: str, faults: dict[str, str], total: int) -> DataError:
    listed = "; ".join(f"{study}: {reason}" for study, reason in list(faults.items())[:3])
    more = " …" if len(faults) > 3 else ""
    return DataError(
        f"{title}: {len(faults):,} of {total:,} images cannot be read ({listed}{more}).",
        "Download or copy these files again, or remove them from the lists.",
        field="data.root",
    )


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
