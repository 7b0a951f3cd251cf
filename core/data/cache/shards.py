"""Decoded pictures on disk: one file of pixels a writer, and one index that names them all.

Each writer appends to a file of its own and names a picture in the index only when its pixels are
on the disk. So any number of processes can write at once, and one that is killed leaves nothing
but some unused bytes.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.data.cache.disk_space import disk_full
from core.errors import DataError

INDEX = "index.sqlite"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WAIT_SECONDS = 60.0
NAMES_A_QUERY = 500

ABANDONED = 3600.0
"""Seconds since its last change after which a file that no picture is named in is nobody's."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS pictures (
    id TEXT, source TEXT, shard TEXT, start INTEGER, height INTEGER, width INTEGER,
    PRIMARY KEY (id, source)
) WITHOUT ROWID
"""


class Place(NamedTuple):
    """Where the pixels of one picture are.

    Attributes:
        id: The study.
        source: What its pixels were made of; see ``ChestDataset.source_key``.
        shard: Name of the file.
        start: First byte.
        height: Rows.
        width: Columns; a byte each.
    """

    id: str
    source: str
    shard: str
    start: int
    height: int
    width: int

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.start + self.height * self.width


class ShardWriter:
    """Appends pictures to a new file of pixels.

    Args:
        folder: Where the shards are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = f"{os.getpid()}-{uuid.uuid4().hex[:12]}.u8"
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / self.name).open("xb")
        self._end = 0

    def append(self, study_id: str, source: str, picture: NDArray[np.uint8]) -> Place:
        """Write one picture; it counts only after ``flush``.

        Raises:
            DataError: The disk is full or cannot be written.
        """
        height, width = picture.shape
        with explained(self._folder):
            self._file.write(np.ascontiguousarray(picture).data)
        place = Place(study_id, source, self.name, self._end, height, width)
        self._end = place.end
        return place

    def flush(self) -> None:
        """Bring everything written to the disk.

        Raises:
            DataError: The disk is full or cannot be written.
        """
        with explained(self._folder):
            self._file.flush()
            os.fsync(self._file.fileno())

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What a full disk left in the buffer fails again here; it was reported when it was written.
        with contextlib.suppress(OSError):
            self._file.close()
        if self._end == 0:
            with contextlib.suppress(OSError):
                (self._folder / self.name).unlink()


class Shards:
    """Reads and indexes the pictures of one folder.

    Args:
        folder: Made if it is not there.

    Raises:
        DataError: The folder cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._maps: dict[str, NDArray[np.uint8]] = {}
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            self._make_index()
        except DataError as error:
            if not isinstance(error.__cause__, sqlite3.DatabaseError):
                raise
            # Nothing in it is lost for good: the pictures are decoded again.
            with explained(folder):
                (folder / INDEX).unlink(missing_ok=True)
            self._make_index()

    def _make_index(self) -> None:
        with self._index() as index:
            index.execute(SCHEMA)

    def find(self, sources: dict[str, str]) -> dict[str, Place]:
        """The pictures that are there, by id.

        Args:
            sources: Of each study what its pixels must have been made of.
        """
        found: dict[str, Place] = {}
        ids = list(sources)
        with self._index() as index:
            for start in range(0, len(ids), NAMES_A_QUERY):
                part = ids[start : start + NAMES_A_QUERY]
                marks = ", ".join("?" * len(part))
                query = f"SELECT * FROM pictures WHERE id IN ({marks})"  # noqa: S608 - marks only
                for row in index.execute(query, part):
                    place = Place(*row)
                    if place.source == sources[place.id] and self._holds(place):
                        found[place.id] = place
        return found

    def add(self, places: Sequence[Place]) -> None:
        """Name pictures in the index whose pixels are on the disk; the latest one counts.

        Raises:
            DataError: The disk is full or cannot be written.
        """
        with self._index() as index:
            index.executemany("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?)", places)

    def sweep(self) -> None:
        """Remove the files of writers that were killed before any of their pictures was named."""
        with self._index() as index:
            named = {str(row[0]) for row in index.execute("SELECT DISTINCT shard FROM pictures")}
        for file in self.folder.glob("*.u8"):
            # Another run may have the file open or gone meanwhile; then it is left alone.
            with contextlib.suppress(OSError):
                if file.name not in named and time.time() - file.stat().st_mtime > ABANDONED:
                    file.unlink()

    def pixels(self, place: Place) -> NDArray[np.uint8]:
        """One picture, mapped from the disk and read-only; shape (height, width)."""
        shard = self._maps.get(place.shard)
        if shard is None or len(shard) < place.end:
            shard = self._map(place.shard)
        return shard[place.start : place.end].reshape(place.height, place.width)

    def _holds(self, place: Place) -> bool:
        shard = self._maps.get(place.shard)
        if shard is not None and len(shard) >= place.end:
            return True
        try:
            return len(self._map(place.shard)) >= place.end
        except (OSError, ValueError):
            return False

    def _map(self, shard: str) -> NDArray[np.uint8]:
        with (self.folder / shard).open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._maps[shard] = np.frombuffer(mapped, np.uint8)
        return self._maps[shard]

    @contextlib.contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction: any thread may call, and nothing is kept open."""
        path = self.folder / INDEX
        with explained(self.folder):
            connection = sqlite3.connect(path, timeout=WAIT_SECONDS)
            try:
                with connection:
                    yield connection
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                raise DataError(
                    f"The index of the image cache {path} is damaged.",
                    f"Delete the folder {self.folder}; it is made again from the pictures.",
                ) from error
            finally:
                connection.close()


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn faults of the disk into one that says which disk, and what to do."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        full = (
            error.errno in FULL
            if isinstance(error, OSError)
            else error.sqlite_errorcode in (sqlite3.SQLITE_FULL,)
        )
        if full:
            raise disk_full(folder) from error
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"The image cache in {folder} cannot be written ({reason}).",
            "Choose a workspace that you can write (--workspace DIR or CXR_WORKSPACE).",
        ) from error
