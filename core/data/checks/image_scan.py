"""Every picture of a data set looked at once: can it be read, how large is it, is it a copy?"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from core.data.base import ChestDataset
from core.errors import DataError

FLAT = 2.0
"""Standard deviation in grey levels up to which a picture counts as constant."""

BLACK = 20
"""Grey level that 99% of an almost black picture's pixels stay below."""

HASHED_SIDE, KEPT = 64, 16
"""The perceptual hash takes the 16 × 16 lowest frequencies of a 64 × 64 copy, without the mean."""

NEAR = 24
"""Bits of 255 in which near-duplicates may differ. Recompression, resizing and a gamma of 0.7
change up to 22 on real radiographs; no two patients among 400 of NIH came closer than 60."""

ROWS = 256
"""Hashes compared at once with all others."""


@dataclass(frozen=True)
class Look:
    """What is kept of one picture.

    Attributes:
        height: In pixels.
        width: In pixels.
        content: Hash of its grey levels and its shape: equal for equal pictures.
        hash: Perceptual hash, 255 bits packed into 32 bytes; close for pictures that look alike.
        spread: Standard deviation of the grey levels.
        bright: Grey level that 99% of the pixels do not exceed.
    """

    height: int
    width: int
    content: bytes
    hash: bytes
    spread: float
    bright: int


@dataclass
class Inspection:
    """What a look at many pictures gave.

    Attributes:
        looks: What was seen, by study.
        unreadable: Why a picture could not be read, by study.
        complete: False if the look was stopped before the end.
    """

    looks: dict[str, Look] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    complete: bool = True


def inspect(
    dataset: ChestDataset,
    ids: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Inspection:
    """Decode each picture once, on all cores; nothing but ``Look`` is kept of it.

    Args:
        dataset: Where the pictures come from.
        ids: Which ones.
        progress: Told how many of how many are done.
        should_stop: Asked now and then.
    """
    found = Inspection()

    def read(one: str) -> Look | str:
        try:
            return look(dataset.read(one))
        except DataError as error:
            return error.cause

    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads, thread_name_prefix="inspect") as pool:
        # Decoders let go of the interpreter; a few pictures a thread keep it busy.
        for part in _parts(ids, 8 * threads):
            for one, seen in zip(part, pool.map(read, part), strict=True):
                if isinstance(seen, Look):
                    found.looks[one] = seen
                else:
                    found.unreadable[one] = seen
            if progress is not None:
                progress(len(found.looks) + len(found.unreadable), len(ids))
            if should_stop is not None and should_stop():
                found.complete = len(found.looks) + len(found.unreadable) == len(ids)
                break
    return found


def look(picture: NDArray[np.uint8]) -> Look:
    """Size, hashes and contrast of a picture of shape (height, width)."""
    height, width = picture.shape
    whole = np.ascontiguousarray(picture)
    content = hashlib.blake2b(f"{height} {width} ".encode(), digest_size=16)
    content.update(whole.data)
    counts = np.bincount(whole.ravel(), minlength=256)
    levels = np.arange(256)
    mean = float(counts @ levels) / whole.size
    spread = float(np.sqrt(counts @ (levels - mean) ** 2 / whole.size))
    bright = int(np.searchsorted(np.cumsum(counts), 0.99 * whole.size))
    return Look(height, width, content.digest(), perceptual_hash(whole), spread, bright)


def perceptual_hash(picture: NDArray[np.uint8]) -> bytes:
    """255 bits, packed: which of a small copy's lowest frequencies exceed their median.

    After Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, with
    more bits: radiographs of two people look much more alike than two photographs.
    """
    small = Image.fromarray(picture).resize(
        (HASHED_SIDE, HASHED_SIDE), Image.Resampling.BOX, reducing_gap=2.0
    )
    low = dctn(np.asarray(small, np.float32), norm="ortho")[:KEPT, :KEPT].ravel()[1:]
    return np.packbits(low > np.median(low)).tobytes()


def copies(looks: dict[str, Look]) -> list[list[str]]:
    """Groups of studies with the very same picture; constant pictures are left out."""
    groups: dict[bytes, list[str]] = {}
    for one, seen in looks.items():
        if seen.spread > FLAT:
            groups.setdefault(seen.content, []).append(one)
    return [group for group in groups.values() if len(group) > 1]


def near_copies(
    looks: dict[str, Look], splits: dict[str, str], should_stop: Callable[[], bool] | None = None
) -> Iterator[tuple[str, str, int]]:
    """Pairs of studies of different splits that look alike and are not the very same.

    Args:
        looks: What was seen, by study.
        splits: The split of each study.
        should_stop: Asked now and then.

    Yields:
        Two studies, and in how many bits their hashes differ.
    """
    ids = [one for one, seen in looks.items() if seen.spread > FLAT]
    if not ids:
        return
    packed = np.frombuffer(b"".join(looks[one].hash for one in ids), np.uint8).reshape(len(ids), -1)
    where = np.array([splits[one] for one in ids])
    # With bits as ±1, a product of two hashes is (bits − 2 × difference): one multiplication for
    # all, far faster than counting bits.
    signs = 2.0 * np.unpackbits(packed, axis=1).astype(np.float32) - 1.0
    for start in range(0, len(ids), ROWS):
        if should_stop is not None and should_stop():
            return
        rows = slice(start, start + ROWS)
        alike = signs[rows] @ signs[start:].T
        close = alike >= signs.shape[1] - 2 * NEAR
        for i, j in zip(*np.nonzero(close), strict=True):
            a, b = start + int(i), start + int(j)
            if a < b and where[a] != where[b] and looks[ids[a]].content != looks[ids[b]].content:
                yield ids[a], ids[b], round((signs.shape[1] - float(alike[i, j])) / 2)


def unlike(hashes: Sequence[bytes], known: Sequence[bytes]) -> list[int]:
    """Which pictures look neither like a known one nor like one before them.

    Args:
        hashes: Perceptual hashes of the pictures.
        known: Those of others.

    Returns:
        Places in ``hashes``, rising.
    """
    others = [*known, *hashes]
    bits = np.frombuffer(b"".join(others), np.uint8).reshape(len(others), -1)
    signs = 2.0 * np.unpackbits(bits, axis=1).astype(np.float32) - 1.0
    level, first = signs.shape[1] - 2 * NEAR, len(known)
    kept: list[int] = []
    for start in range(0, len(hashes), ROWS):
        rows = signs[first + start : first + start + ROWS]
        close = rows @ signs[: first + start + len(rows)].T >= level
        for i, near in enumerate(close, start):
            near[first + i] = False
            if not near[: first + i].any():
                kept.append(i)
    return kept


def _parts(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    left = iter(ids)
    while part := list(islice(left, size)):
        yield part
