"""What a frozen network made of pictures, kept on disk for this run and those to come.

It lies in files as the decoded pictures do (see ``core.data.cache.shards``): any number of runs
write at once, and one that is killed leaves nothing but some unused bytes. Each array ends with a
checksum.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.data.cache import disk_space
from core.data.cache.shards import Place, Shards, ShardWriter

CHECKSUM = 4
"""Bytes behind each array."""

Bytes = NDArray[np.uint8]


class Activations:
    """Arrays of one size by name, on disk.

    Args:
        folder: Those of one network; it can be deleted whenever no run uses it.
        size: Bytes of an array.

    Attributes:
        removed: Bytes of other networks that were removed, as no run had used them for long.

    Raises:
        DataError: The folder cannot be made or written, or is damaged.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._size = size
        self._shards = Shards(folder)
        self.removed = disk_space.keep(folder)
        self._places: dict[str, Place] = {}

    def find(self, sources: Mapping[str, str]) -> set[str]:
        """The names of arrays that are there and whole.

        Args:
            sources: What each array must have been made of, by name.

        Raises:
            DataError: The folder is damaged.
        """
        found = self._shards.find(dict(sources))
        whole = {name: place for name, place in found.items() if self._whole(place)}
        self._places |= whole
        return set(whole)

    def affords(self, count: int) -> bool:
        """Whether there is room for so many arrays more (see ``core.data.cache.disk_space``)."""
        return disk_space.affords(self.folder, count * (self._size + CHECKSUM))

    def add(self, sources: Mapping[str, str], arrays: NDArray[np.uint8]) -> None:
        """Keep arrays.

        Args:
            sources: What each was made of, by name.
            arrays: Of shape (names, bytes), in the order of the names.

        Raises:
            DataError: The disk is full or cannot be written.
        """
        places = []
        with ShardWriter(self.folder) as writer:
            for (name, source), array in zip(sources.items(), arrays, strict=True):
                sealed = np.concatenate([array, _checksum(array)])
                places.append(writer.append(name, source, sealed[None]))
            writer.flush()
        self._shards.add(places)
        self._places.update((place.id, place) for place in places)

    def get(self, name: str) -> Bytes:
        """One array that ``find`` or ``add`` named, mapped from the disk and read-only."""
        return self._shards.pixels(self._places[name])[0, :-CHECKSUM]

    def _whole(self, place: Place) -> bool:
        if (place.height, place.width) != (1, self._size + CHECKSUM):
            return False
        sealed = self._shards.pixels(place)[0]
        return bool(np.array_equal(sealed[-CHECKSUM:], _checksum(sealed[:-CHECKSUM])))


class InMemory:
    """The same for small arrays where the disk has no room: they are gone with the run."""

    def __init__(self) -> None:
        self._arrays: dict[str, Bytes] = {}

    def find(self, sources: Mapping[str, str]) -> set[str]:
        """The names of arrays that are there."""
        return set(self._arrays.keys() & sources.keys())

    def affords(self, count: int) -> bool:
        """Whether there is room for so many arrays more."""
        return True

    def add(self, sources: Mapping[str, str], arrays: NDArray[np.uint8]) -> None:
        """Keep arrays of shape (names, bytes), in the order of the names."""
        self._arrays.update(zip(sources, arrays.copy(), strict=True))

    def get(self, name: str) -> Bytes:
        """One array."""
        return self._arrays[name]


def _checksum(array: Bytes) -> Bytes:
    found = zlib.crc32(np.ascontiguousarray(array).data)
    return np.frombuffer(found.to_bytes(CHECKSUM, "little"), np.uint8)
