"""Each picture decoded once: uint8 copies of a fixed shorter side, mapped into memory."""

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
from core.data.cache.decoder_pool import PART, CannotStartError, Decoders, Part, Task, shares
from core.data.cache.shards import Place, Shards, ShardWriter
from core.data.datasets.files import check_missing
from core.errors import DataError

ALONE_SECONDS = 1.0
"""How long this process decodes by itself before it asks others to help with a little work."""

WORTH_SECONDS = 2.0
"""Work that must be left for other processes to be worth starting. The more there is, the sooner
they are."""

PAUSE_SECONDS = 0.25
"""How often this process writes what it decoded, and asks whether to stop."""

Progress = Callable[[int, int], None]


def cache_side(input_size: int) -> int:
    """Shorter side at which pictures are cached for an input size: 224 → 256, 128 → 144."""
    return round(input_size * 8 / 7 / 16) * 16


class ImageCache:
    """Copies of a data set's pictures, made where they are missing.

    Copies are found by study, source and reader version, so that a changed file is read anew and
    one folder serves any number of data sets. Any number of processes may fill it at once, and be
    killed meanwhile.

    Args:
        folder: The cache's folder; it can be deleted whenever no run uses it.
        dataset: Where the pictures come from.
        short_side: Shorter side of the copies, in pixels.

    Raises:
        DataError: The folder cannot be made or written, or is damaged.
    """

    def __init__(self, folder: Path, dataset: ChestDataset, short_side: int) -> None:
        self.dataset = dataset
        self.short_side = short_side
        place = Path(folder).absolute() / disk_space.PICTURES / f"{dataset.name}-{short_side}"
        self._task = Task(dataset, short_side, place)
        self._shards = Shards(place)
        self._places: dict[str, Place] = {}

    @property
    def folder(self) -> Path:
        """Where the copies of this data set and side are."""
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
            ids: The studies that will be asked for.
            progress: Told how many of how many are there.
            should_stop: Asked several times a second; what is made by then is kept.
            faults: If given, filled with why pictures cannot be made, by study, and nothing is
                raised for them.

        Returns:
            False if ``should_stop`` said so before all were there.

        Raises:
            DataError: Pictures are missing or unreadable, with counts and examples; or the disk or
                the cache's limit is too small. The other pictures are cached nevertheless.
        """
        ids = list(dict.fromkeys(ids))
        missing, gone = self._missing(ids)
        if faults is None:
            self._check_gone(gone, len(ids))
        found = dict.fromkeys(gone, MISSING)
        if missing:
            self._shards.sweep()
            disk_space.check_disk_space(self.folder, 0)
        tell = _Teller(len(ids), len(ids) - len(missing), progress)
        stop = should_stop or (lambda: False)
        for part in self._decoded(missing):
            if part is not None:
                self._keep(part.places)
                found |= part.faults
                tell(len(part.places) + len(part.faults))
            if stop():
                return False
        if faults is not None:
            faults |= found
        elif found:
            raise _unreadable(self.dataset.title, found, len(ids))
        return True

    def get(self, study_id: str) -> NDArray[np.uint8]:
        """One copy, read-only, of shape (height, width); made now if it is not there.

        Raises:
            DataError: The picture is missing or unreadable.
        """
        place = self._places.get(study_id)
        if place is None:
            self.ensure([study_id])
            place = self._places[study_id]
        return self._shards.pixels(place)

    def source(self, study_id: str) -> str:
        """What a copy was made of; another text means other pixels.

        Raises:
            DataError: The picture is missing or unreadable.
        """
        if study_id not in self._places:
            self.ensure([study_id])
        return f"{self.dataset.name} {self.short_side} {self._places[study_id].source}"

    def missing(self, ids: Iterable[str]) -> list[str]:
        """The studies without a copy of their present source.

        Raises:
            DataError: Files are gone, with counts and examples.
        """
        ids = list(dict.fromkeys(ids))
        missing, gone = self._missing(ids)
        self._check_gone(gone, len(ids))
        return missing

    def _missing(self, ids: list[str]) -> tuple[list[str], list[str]]:
        """Those without a copy, and those without a source."""
        sources, gone = {}, []
        for one in ids:
            try:
                sources[one] = self._task.source(one)
            except DataError:
                gone.append(one)
        self._places.update(self._shards.find(sources))
        return [one for one, source in sources.items() if self._source(one) != source], gone

    def _check_gone(self, gone: list[str], total: int) -> None:
        check_missing(self.dataset.title, gone, total, "Restore the files.")

    def _source(self, study_id: str) -> str | None:
        place = self._places.get(study_id)
        return None if place is None else place.source

    def _keep(self, places: list[Place]) -> None:
        if places:
            self._shards.add(places)
            self._places.update((place.id, place) for place in places)

    def _decoded(self, ids: list[str]) -> Iterator[Part | None]:
        """Decode here for a moment; if much is left, start processes that help."""
        done, size = 0, 0
        for part in self._decoded_here(ids, ALONE_SECONDS):
            yield part
            done += len(part.places) + len(part.faults)
            size += sum(place.height * place.width for place in part.places)
        left = ids[done:]
        if not left:
            return
        disk_space.check_disk_space(self.folder, int(size / done * len(left)))
        try:
            yield from self._decoded_beside(left)
        except CannotStartError:
            yield from self._decoded_here(left, math.inf)

    def _decoded_here(self, ids: list[str], patience: float) -> Iterator[Part]:
        """Decode in this process; ends early if that would take too long after ``patience``."""
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

    def _decoded_beside(self, ids: list[str]) -> Iterator[Part | None]:
        # Another run may fill the cache with the same pictures: beginning elsewhere, the two share
        # the work.
        begin = os.getpid() * 7919 % len(ids)
        workers = min(_cores(), math.ceil(len(ids) / PART))
        yield from Decoders(self._task, workers).run(shares(ids[begin:] + ids[:begin], workers))


class _Teller:
    """Adds up what is done and says so."""

    def __init__(self, total: int, done: int, progress: Progress | None) -> None:
        self._total, self._done, self._progress = total, done, progress
        self(0)

    def __call__(self, more: int) -> None:
        self._done += more
        if self._progress is not None:
            self._progress(self._done, self._total)


def _unreadable(title: str, faults: dict[str, str], total: int) -> DataError:
    named = "; ".join(f"{one}: {why}" for one, why in list(faults.items())[:3])
    more = " …" if len(faults) > 3 else ""
    return DataError(
        f"{title}: {len(faults):,} of {total:,} pictures cannot be read ({named}{more}).",
        "Download or copy these files again, or take them out of the lists.",
        field="data.root",
    )


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
