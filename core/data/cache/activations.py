"""Activations of a frozen network, cached on disk for this run and later ones.

They are stored as the decoded images are (see ``core.data.cache.shards``): any number of runs can
write at the same time, and a run that is killed leaves only some unused bytes. Each array ends with
a checksum.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.data.cache import disk_space
from core.data.cache.shards import Location, Shards, ShardWriter

CHECKSUM = 4
"""Bytes of the checksum after each array."""

Bytes = NDArray[np.uint8]


class Activations:
    """Arrays of one size by name, on disk.

    Args:
        folder: The folder of one network; it may be deleted when no run uses it.
        size: Bytes of an array.

    Attributes:
        removed: Bytes of other networks' activations that were removed because they were unused.

    Raises:
        DataError: The folder cannot be created or written, or is damaged.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._size = size
        self._shards = Shards(folder)
        self.removed = disk_space.keep(folder)
        self._locations: dict[str, Location] = {}

    def find(self, sources: Mapping[str, str]) -> set[str]:
        """Return the names of arrays that exist, are intact, and were computed from their source.

        Raises:
            DataError: The folder is damaged.
        """
        stored = self._shards.find(dict(sources))
        intact = {name: location for name, location in stored.items() if self._is_intact(location)}
        self._locations |= intact
        return set(intact)

    def affords(self, count: int) -> bool:
        """Whether ``count`` more arrays fit on the disk (see ``core.data.cache.disk_space``)."""
        return disk_space.affords(self.folder, count * (self._size + CHECKSUM))

    def add(self, sources: Mapping[str, str], arrays: NDArray[np.uint8]) -> None:
        """Store arrays.

        Args:
            sources: What each was computed from, by name.
            arrays: Of shape (names, bytes), in the order of the names.

        Raises:
            DataError: The disk is full or cannot be written.
        """
        locations = []
        with ShardWriter(self.folder) as writer:
            for (name, source), array in zip(sources.items(), arrays, strict=True):
                checked = np.concatenate([array, _checksum(array)])
                locations.append(writer.append(name, source, checked[None]))
            writer.flush()
        self._shards.add(locations)
        self._locations.update((location.id, location) for location in locations)

    def get(self, name: str) -> Bytes:
        """Return one array that ``find`` or ``add`` named, memory-mapped and read-only."""
        return self._shards.pixels(self._locations[name])[0, :-CHECKSUM]

    def _is_intact(self, location: Location) -> bool:
        if (location.height, location.width) != (1, self._size + CHECKSUM):
            return False
        checked = self._shards.pixels(location)[0]
        return bool(np.array_equal(checked[-CHECKSUM:], _checksum(checked[:-CHECKSUM])))


class InMemory:
    """The same interface in memory, for small arrays that do not fit on the disk."""

    def __init__(self) -> None:
        self._arrays: dict[str, Bytes] = {}

    def find(self, sources: Mapping[str, str]) -> set[str]:
        """Return the names of arrays that exist."""
        return set(self._arrays.keys() & sources.keys())

    def affords(self, count: int) -> bool:
        """Whether ``count`` more arrays fit: always."""
        return True

    def add(self, sources: Mapping[str, str], arrays: NDArray[np.uint8]) -> None:
        """Store arrays of shape (names, bytes), in the order of the names."""
        self._arrays.update(zip(sources, arrays.copy(), strict=True))

    def get(self, name: str) -> Bytes:
        """Return one array."""
        return self._arrays[name]


def _checksum(array: Bytes) -> Bytes:
    checksum = zlib.crc32(np.ascontiguousarray(array).data)
    return np.frombuffer(checksum.to_bytes(CHECKSUM, "little"), np.uint8)
