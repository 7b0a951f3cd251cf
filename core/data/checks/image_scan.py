"""Decode every image of a data set once: size, contrast, and hashes that find duplicates."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
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
"""Standard deviation in grey levels up to which an image counts as constant."""

BLACK = 20
"""Grey level that 99% of the pixels of an almost black image are below."""

HASHED_SIDE, FREQUENCIES = 64, 16
"""The perceptual hash uses the 16 × 16 lowest frequencies of a 64 × 64 copy, without the mean."""

NEAR = 24
"""Bits of 255 in which near-duplicates may differ. Recompression, resizing and a gamma of 0.7
change up to 22 bits of real radiographs; 400 patients of NIH differ by 60 bits or more."""

ROWS = 256
"""Hashes that are compared with all others at once."""


@dataclass(frozen=True)
class ImageStatistics:
    """Size, contrast and hashes of one image.

    Attributes:
        height: In pixels.
        width: In pixels.
        content: Hash of its grey levels and its shape: equal for identical images.
        hash: Perceptual hash, 255 bits packed into 32 bytes; similar for similar images.
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
class ImageScan:
    """The result of decoding many images.

    Attributes:
        statistics: Statistics of the readable images, by study.
        unreadable: Why an image could not be read, by study.
        complete: False if the scan was stopped.
    """

    statistics: dict[str, ImageStatistics] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    complete: bool = True


def scan(
    dataset: ChestDataset,
    ids: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> ImageScan:
    """Decode each image once, on all cores, and keep its statistics.

    Args:
        dataset: The data set.
        ids: The studies.
        progress: Called with the number of decoded images and of all images.
        should_stop: Called regularly; the scan ends if it returns True.
    """
    result = ImageScan()

    def read(study: str) -> ImageStatistics | str:
        try:
            return statistics(dataset.read(study))
        except DataError as error:
            return error.cause

    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads, thread_name_prefix="image-scan") as pool:
        # Decoders release the interpreter lock; a few images per thread keep all threads busy.
        for part in _parts(ids, 8 * threads):
            for study, answer in zip(part, pool.map(read, part), strict=True):
                if isinstance(answer, ImageStatistics):
                    result.statistics[study] = answer
                else:
                    result.unreadable[study] = answer
            done = len(result.statistics) + len(result.unreadable)
            if progress is not None:
                progress(done, len(ids))
            if should_stop is not None and should_stop():
                result.complete = done == len(ids)
                break
    return result


def statistics(image: NDArray[np.uint8]) -> ImageStatistics:
    """Compute the statistics of an image of shape (height, width)."""
    height, width = image.shape
    pixels = np.ascontiguousarray(image)
    content = hashlib.blake2b(f"{height} {width} ".encode(), digest_size=16)
    content.update(pixels.data)
    counts = np.bincount(pixels.ravel(), minlength=256)
    levels = np.arange(256)
    mean = float(counts @ levels) / pixels.size
    spread = float(np.sqrt(counts @ (levels - mean) ** 2 / pixels.size))
    bright = int(np.searchsorted(np.cumsum(counts), 0.99 * pixels.size))
    return ImageStatistics(height, width, content.digest(), perceptual_hash(pixels), spread, bright)


def perceptual_hash(image: NDArray[np.uint8]) -> bytes:
    """Compute a hash of 255 bits, packed: which low frequencies exceed their median.

    After Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, with
    more bits: radiographs of two patients are more similar than two photographs.
    """
    small = Image.fromarray(image).resize(
        (HASHED_SIDE, HASHED_SIDE), Image.Resampling.BOX, reducing_gap=2.0
    )
    low = dctn(np.asarray(small, np.float32), norm="ortho")[:FREQUENCIES, :FREQUENCIES].ravel()[1:]
    return np.packbits(low > np.median(low)).tobytes()


def duplicates(images: Mapping[str, ImageStatistics]) -> list[list[str]]:
    """Return groups of studies with identical images; constant images are left out."""
    groups: dict[bytes, list[str]] = {}
    for study, image in images.items():
        if image.spread > FLAT:
            groups.setdefault(image.content, []).append(study)
    return [group for group in groups.values() if len(group) > 1]


def near_duplicates(
    images: Mapping[str, ImageStatistics],
    splits: Mapping[str, str],
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[tuple[str, str, int]]:
    """Find pairs of studies of different splits with similar, but not identical, images.

    Args:
        images: Statistics of the images, by study.
        splits: The split of each study.
        should_stop: Called regularly; the search ends if it returns True.

    Yields:
        Two studies, and the number of bits in which their hashes differ.
    """
    ids = [study for study, image in images.items() if image.spread > FLAT]
    if not ids:
        return
    split_of = np.array([splits[study] for study in ids])
    signs = _signs([images[study].hash for study in ids])
    for start in range(0, len(ids), ROWS):
        if should_stop is not None and should_stop():
            return
        rows = slice(start, start + ROWS)
        similarity = signs[rows] @ signs[start:].T
        near = similarity >= signs.shape[1] - 2 * NEAR
        for i, j in zip(*np.nonzero(near), strict=True):
            a, b = start + int(i), start + int(j)
            identical = images[ids[a]].content == images[ids[b]].content
            if a < b and split_of[a] != split_of[b] and not identical:
                yield ids[a], ids[b], round((signs.shape[1] - float(similarity[i, j])) / 2)


def distinct(hashes: Sequence[bytes], known: Sequence[bytes]) -> list[int]:
    """Return the indices of hashes that are similar neither to a known nor to an earlier one."""
    signs = _signs([*known, *hashes])
    level, first = signs.shape[1] - 2 * NEAR, len(known)
    kept: list[int] = []
    for start in range(0, len(hashes), ROWS):
        rows = signs[first + start : first + start + ROWS]
        similar = rows @ signs[: first + start + len(rows)].T >= level
        for i, near in enumerate(similar, start):
            if not near[: first + i].any():
                kept.append(i)
    return kept


def _signs(hashes: Sequence[bytes]) -> NDArray[np.float32]:
    """Unpack hashes to ±1: the product of two hashes is then (bits − 2 × difference).

    One matrix product compares all pairs, which is far faster than counting bits.
    """
    packed = np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), -1)
    signs: NDArray[np.float32] = 2.0 * np.unpackbits(packed, axis=1).astype(np.float32) - 1.0
    return signs


def _parts(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    left = iter(ids)
    while part := list(islice(left, size)):
        yield part
