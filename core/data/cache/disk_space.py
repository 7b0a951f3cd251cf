"""Disk space of the cache of decoded images and activations: limits, checks and clean-up."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from core.errors import ConfigurationError, DataError

LIMIT = "CXR_CACHE_GB"
"""Environment variable: limit of the cache of all data sets and sides, in GB (10^9 bytes)."""

LEFT_FREE = 0.02
"""Share of a disk that the cache leaves free for the weights of runs."""

KINDS = IMAGES, FEATURES = "images", "features"
"""Folders of the cache: decoded images, and activations of frozen networks."""

UNUSED_DAYS = 14
"""Days without use after which activations are removed; no run takes that long."""

SHARE_OF_FREE = 0.25
"""Share of a disk's free space that activations may take; the rest is for images and weights."""

MOST_FOLDERS = 5
"""Folders that an error message lists."""


def check_disk_space(folder: Path, needed: int) -> None:
    """Check that the disk and the limit of the cache allow more images.

    Args:
        folder: The folder of one data set in the cache; its siblings are those of the others.
        needed: Bytes to be written; 0 if that is not known.

    Raises:
        DataError: The disk is too small, or the cache would exceed its limit.
        ConfigurationError: The limit is not a number above 0.
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
    """Whether activations fit into their share of the free space and into the cache's limit.

    Args:
        folder: The folder of the activations of one network.
        needed: Bytes to be written.

    Raises:
        ConfigurationError: The limit is not a number above 0.
    """
    limit = _limit()
    if limit is not None and _taken(folder) + needed > limit:
        return False
    return needed <= SHARE_OF_FREE * shutil.disk_usage(folder).free


def keep(folder: Path) -> int:
    """Mark a network's activations as used, and remove those not used for ``UNUSED_DAYS``.

    Activations can be computed again. Images, which take hours to decode, are never removed.

    Args:
        folder: The folder of this network's activations; its siblings are those of the others.

    Returns:
        Bytes that were removed.
    """
    with contextlib.suppress(OSError):  # the folder of another user
        os.utime(folder)
    oldest = time.time() - UNUSED_DAYS * 86_400
    removed = 0
    for other in folder.parent.iterdir():
        try:
            if other != folder and other.is_dir() and other.stat().st_mtime < oldest:
                removed += size_of(other)
                shutil.rmtree(other)
        except OSError:  # another run has removed it, or it belongs to another user
            continue
    return removed


def _taken(folder: Path) -> int:
    """Bytes of all folders that the limit applies to."""
    return sum(size_of(folder.parent.parent / kind) for kind in KINDS)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except FileNotFoundError:  # another run has removed it
                continue
    return total


def disk_full(folder: Path, needed: int = 0, free: int = 0) -> DataError:
    """Build the error for a disk that is full.

    Args:
        folder: The folder in the cache.
        needed: Bytes to be written; 0 if that is not known.
        free: Bytes that are free.
    """
    amount = f": {_gb(needed)} are needed, {_gb(free)} are free" if needed else ""
    return DataError(
        f"The disk of the image cache {folder} is full{amount}.",
        "Free some space, or choose a workspace on another disk (--workspace DIR or "
        "CXR_WORKSPACE). Images that are already cached are kept.",
    )


def _too_large(cache: Path, wanted: int, limit: float) -> DataError:
    folders = [folder for kind in KINDS for folder in (cache / kind).glob("*") if folder.is_dir()]
    sizes = {str(folder.relative_to(cache)): size_of(folder) for folder in folders}
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:MOST_FOLDERS]
    listed = ", ".join(f"{name} ({_gb(sizes[name])})" for name in largest)
    return DataError(
        f"The cache {cache} would take {_gb(wanted)}; its limit is {_gb(limit)} ({LIMIT}).",
        f"Raise the limit, or delete folders of the cache that no run uses: {listed}.",
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
            f"The limit of the image cache, {LIMIT}, is “{given}”, which is not a number above 0.",
            "Give it in GB, such as 20, or leave it empty.",
        )
    return limit * 1e9


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 5e7 else f"{size / 1e9:.3f} GB"
