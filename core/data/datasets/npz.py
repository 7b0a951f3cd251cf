"""Images in an npz file, read one at a time.

A compressed array can only be read from its start: reading continues forward from the last image,
and starts again for an earlier one. Reading in order decompresses the file once.
"""

from __future__ import annotations

import threading
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from core.errors import DataError

KEPT_BYTES = 64_000_000
"""Arrays up to this size are kept in memory."""

SKIPPED_BYTES = 1 << 20
"""Bytes that are decompressed at once while skipping images."""


class NpzImages:
    """One array of an npz file: uint8 of shape (images, height, width).

    Raises:
        DataError: The file is not an npz file, or has no such array of images.
    """

    def __init__(self, path: Path, member: str) -> None:
        self.path, self.member = path, member
        self._lock = threading.Lock()
        self._stream: IO[bytes] | None = None
        self._next = 0
        self._whole: NDArray[np.uint8] | None = None
        shape, self._start = _header(path, member)
        self.count, self.height, self.width = shape

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        """Read one image of shape (height, width).

        Raises:
            DataError: The file is damaged or does not exist.
        """
        with self._lock:
            try:
                if self.count * self.height * self.width <= KEPT_BYTES:
                    if self._whole is None:
                        self._whole = np.stack([self._read(i) for i in range(self.count)])
                        self._close()
                    image: NDArray[np.uint8] = self._whole[number]
                    return image
                return self._read(number)
            except Exception as error:  # zipfile raises many types of error for a damaged file
                self._close()
                raise DataError(
                    f"{self.path} is damaged ({error}).", "Download the file again."
                ) from error

    def _read(self, number: int) -> NDArray[np.uint8]:
        size = self.height * self.width
        if self._stream is None or number < self._next:
            self._close()
            with zipfile.ZipFile(self.path) as archive:  # the stream keeps the file open
                self._stream = archive.open(f"{self.member}.npy")
            _skip(self._stream, self._start)
            self._next = 0
        _skip(self._stream, (number - self._next) * size)
        content = self._stream.read(size)
        if len(content) != size:
            raise EOFError("it is incomplete")
        self._next = number + 1
        return np.frombuffer(content, np.uint8).reshape(self.height, self.width)

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "member": self.member}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def read_labels(path: Path, member: str, most: int = 10_000_000) -> NDArray[np.int64]:
    """Read a small array of integers, of shape (images, labels).

    Args:
        path: The npz file.
        member: Name of the array.
        most: Largest number of values that are read.

    Raises:
        DataError: There is no such array, or it does not contain labels.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as stream:
            shape, order, dtype = _array_header(stream)
            if dtype.kind not in "iub" or not 1 <= len(shape) <= 2 or int(np.prod(shape)) > most:
                raise ValueError(f"its array {member} contains {dtype} of shape {shape}")
            size = int(np.prod(shape)) * dtype.itemsize
            content = stream.read(size)
            values = np.frombuffer(content, dtype, int(np.prod(shape)))
            labels = values.reshape(shape, order="F" if order else "C").astype(np.int64)
            return labels.reshape(len(labels), -1)
    except Exception as error:  # zipfile and NumPy raise many types of error for a damaged file
        raise _invalid_file(path, error) from error


def _header(path: Path, member: str) -> tuple[tuple[int, int, int], int]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as stream:
            shape, order, dtype = _array_header(stream)
            if dtype != np.uint8 or order or len(shape) != 3 or 0 in shape:
                raise ValueError(f"its array {member} contains {dtype} of shape {shape}")
            return (int(shape[0]), int(shape[1]), int(shape[2])), stream.tell()
    except Exception as error:  # zipfile and NumPy raise many types of error for a damaged file
        raise _invalid_file(path, error) from error


def _array_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(stream)
    if version == (1, 0):
        return npy.read_array_header_1_0(stream)
    return npy.read_array_header_2_0(stream)


def _skip(stream: IO[bytes], count: int) -> None:
    while count > 0:
        read = len(stream.read(min(count, SKIPPED_BYTES)))
        if read == 0:
            raise EOFError("it is incomplete")
        count -= read


def _invalid_file(path: Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or str(error).strip("'\"")
    return DataError(
        f"{path} is not a MedMNIST file ({reason}).",
        "Download the file again from zenodo.org/records/10519652.",
        field="data.root",
    )
