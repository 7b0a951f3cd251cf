"""How much room the cache of decoded pictures may take, and what to do when it is not enough."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from core.errors import ConfigurationError, DataError

LIMIT = "CXR_CACHE_GB"
"""Environment variable that bounds the cache, over all data sets and sides, in GB (10^9 bytes)."""

LEFT_FREE = 0.02
"""Share of a disk that the cache leaves free: runs write their weights there."""

KINDS = PICTURES, FEATURES = "images", "features"
"""Folders of the cache: decoded pictures, and what frozen networks made of them."""

UNUSED_DAYS = 14
"""Days after which activations that no run has opened are removed: longer than any run takes."""

SHARE_OF_FREE = 0.25
"""Share of a disk's free space that activations may take: pictures and weights matter more."""

NAMED = 5


def check_disk_space(folder: Path, needed: int) -> None:
    """Refuse to write more copies than there is room for.

    Args:
        folder: Where the copies of one data set are; beside it are those of the others.
        needed: Bytes still to be written, as far as that is known.

    Raises:
        DataError: The disk is too small, or the cache would exceed its limit.
        ConfigurationError: The limit is no number.
    """
    limit = _limit()
    if limit is not None:
        taken = _taken(folder)
        if taken + needed > limit or taken >= limit:
            raise _too_large(folder.parent.parent, taken + needed, limit)
    usage = shutil.disk_usage(folder)
    if needed and needed > usage.free - LEFT_FREE * usage.total:
        raise disk_full(folder, needed, usage.free)


def affords(folder: Path, needed: int) -> bool:
    """Whether activations have room: a share of what is free, within the cache's limit.

    Args:
        folder: Where those of one network are.
        needed: Bytes still to be written.

    Raises:
        ConfigurationError: The limit is no number.
    """
    limit = _limit()
    if limit is not None and _taken(folder) + needed > limit:
        return False
    return needed <= SHARE_OF_FREE * shutil.disk_usage(folder).free


def keep(folder: Path) -> int:
    """Note that a network's activations are in use, and remove those that long were not.

    They can be computed again; pictures, which take hours to decode, are never removed.

    Args:
        folder: Where those of this network are; beside it are those of the others.

    Returns:
        Bytes that were removed.
    """
    with contextlib.suppress(OSError):  # another user's
        os.utime(folder)
    oldest = time.time() - UNUSED_DAYS * 86_400
    removed = 0
    for other in folder.parent.iterdir():
        try:
            if other != folder and other.is_dir() and other.stat().st_mtime < oldest:
                removed += size_of(other)
                shutil.rmtree(other)
        except OSError:  # another run has removed it meanwhile, or it is not ours to remove
            continue
    return removed


def _taken(folder: Path) -> int:
    """Bytes of all that the limit bounds."""
    return sum(size_of(folder.parent.parent / kind) for kind in KINDS)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).stat().st_size
            except FileNotFoundError:  # another run has removed it meanwhile
                continue
    return total


def disk_full(folder: Path, needed: int = 0, free: int = 0) -> DataError:
    """The error for a disk without room for the cache.

    Args:
        folder: The cache.
        needed: Bytes still to be written; 0 if that is not known.
        free: Bytes that are free.
    """
    amount = f": {_gb(needed)} are needed, {_gb(free)} are free" if needed else ""
    return DataError(
        f"The disk of the image cache {folder} is full{amount}.",
        "Free some space or choose a workspace on another disk (--workspace DIR or "
        "CXR_WORKSPACE); what is cached already is kept.",
    )


def _too_large(cache: Path, wanted: int, limit: float) -> DataError:
    each = [one for kind in KINDS for one in (cache / kind).glob("*") if one.is_dir()]
    sizes = {str(one.relative_to(cache)): size_of(one) for one in each}
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:NAMED]
    listed = ", ".join(f"{one} ({_gb(sizes[one])})" for one in largest)
    return DataError(
        f"The cache {cache} would take {_gb(wanted)}; its limit is {_gb(limit)} ({LIMIT}).",
        f"Raise the limit, or delete folders in it that no run uses: {listed}.",
    )


def _limit() -> float | None:
    given = os.environ.get(LIMIT, "").strip()
    if not given:
        return None
    try:
        limit = float(given)
    except ValueError:
        limit = -1.0
    if not limit > 0:
        raise ConfigurationError(
            f"The limit of the image cache, {LIMIT}, is “{given}”, which is no number above 0.",
            "Give it in GB, such as 20, or leave it empty.",
        )
    return limit * 1e9


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 5e7 else f"{size / 1e9:.3f} GB"
