"""Decoded images on disk: one file of pixels per writer, and one SQLite index of all images.

Each writer appends to a file of its own and adds an image to the index only after its pixels are on
the disk. Any number of processes can therefore write at the same time, and a process that is killed
leaves only some unused bytes.
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
NAMES_PER_QUERY = 500

ABANDONED = 3600.0
"""Age in seconds of the last change after which a file without indexed images is removed."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS pictures (
    id TEXT, source TEXT, shard TEXT, start INTEGER, height INTEGER, width INTEGER,
    PRIMARY KEY (id, source)
) WITHOUT ROWID
"""


class Location(NamedTuple):
    """Where the pixels of one image are stored.

    Attributes:
        id: The study.
        source: What the pixels were made from; see ``ChestDataset.source_key``.
        shard: Name of the file.
        start: First byte.
        height: Rows.
        width: Columns; one byte per pixel.
    """

    id: str
    source: str
    shard: str
    start: int
    height: int
    width: int

    @property
    def end(self) -> int:
        """The byte after the last one."""
        return self.start + self.height * self.width


class ShardWriter:
    """Appends images to a new file of pixels in a folder of shards."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = f"{os.getpid()}-{uuid.uuid4().hex[:12]}.u8"
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / self.name).open("xb")
        self._end = 0

    def append(self, study_id: str, source: str, image: NDArray[np.uint8]) -> Location:
        """Write one image of shape (height, width); it is on the disk only after ``flush``.

        Raises:
            DataError: The disk is full or cannot be written.
        """
        height, width = image.shape
        with explained(self._folder):
            self._file.write(np.ascontiguousarray(image).data)
        location = Location(study_id, source, self.name, self._end, height, width)
        self._end = location.end
        return location

    def flush(self) -> None:
        """Write all buffered data to the disk.

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
        # Data that a full disk left in the buffer fails again here; it has been reported.
        with contextlib.suppress(OSError):
            self._file.close()
        if self._end == 0:
            with contextlib.suppress(OSError):
                (self._folder / self.name).unlink()


class Shards:
    """Reads and indexes the images of one folder, which is created if it does not exist.

    Raises:
        DataError: The folder cannot be created or written.
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
            # A damaged index is replaced; the images are decoded again.
            with explained(folder):
                (folder / INDEX).unlink(missing_ok=True)
            self._make_index()

    def _make_index(self) -> None:
        with self._index() as index:
            index.execute(SCHEMA)

    def find(self, sources: dict[str, str]) -> dict[str, Location]:
        """Return the stored images, by id.

        Args:
            sources: What the pixels of each study must have been made from, by id.
        """
        locations: dict[str, Location] = {}
        ids = list(sources)
        with self._index() as index:
            for start in range(0, len(ids), NAMES_PER_QUERY):
                part = ids[start : start + NAMES_PER_QUERY]
                marks = ", ".join("?" * len(part))
                query = f"SELECT * FROM pictures WHERE id IN ({marks})"  # noqa: S608 - marks only
                for row in index.execute(query, part):
                    location = Location(*row)
                    if location.source == sources[location.id] and self._exists(location):
                        locations[location.id] = location
        return locations

    def add(self, locations: Sequence[Location]) -> None:
        """Add images whose pixels are on the disk to the index; an existing entry is replaced.

        Raises:
            DataError: The disk is full or cannot be written.
        """
        with self._index() as index:
            query = "INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?)"
            index.executemany(query, locations)

    def sweep(self) -> None:
        """Remove the files of writers that were killed before they indexed any image."""
        with self._index() as index:
            indexed = {str(row[0]) for row in index.execute("SELECT DISTINCT shard FROM pictures")}
        for file in self.folder.glob("*.u8"):
            # Another run may have the file open, or may have removed it; then nothing is done.
            with contextlib.suppress(OSError):
                if file.name not in indexed and time.time() - file.stat().st_mtime > ABANDONED:
                    file.unlink()

    def pixels(self, location: Location) -> NDArray[np.uint8]:
        """Return one image of shape (height, width), memory-mapped and read-only."""
        shard = self._maps.get(location.shard)
        if shard is None or len(shard) < location.end:
            shard = self._map(location.shard)
        return shard[location.start : location.end].reshape(location.height, location.width)

    def _exists(self, location: Location) -> bool:
        shard = self._maps.get(location.shard)
        if shard is not None and len(shard) >= location.end:
            return True
        try:
            return len(self._map(location.shard)) >= location.end
        except (OSError, ValueError):
            return False

    def _map(self, shard: str) -> NDArray[np.uint8]:
        with (self.folder / shard).open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._maps[shard] = np.frombuffer(mapped, np.uint8)
        return self._maps[shard]

    @contextlib.contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        """Open a connection for one transaction; any thread may call, and none is kept open."""
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
                    f"Delete the folder {self.folder}; the images are decoded again.",
                ) from error
            finally:
                connection.close()


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn errors of the disk and the index into ``DataError`` with cause and remedy."""
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
