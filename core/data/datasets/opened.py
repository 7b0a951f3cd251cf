"""A cache of opened data sets."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from core.config.run import DataSpec
from core.data.base import ChestDataset
from core.data.datasets.registry import open_data

MANY = 1000
"""Number of subfolders above which they are those of patients, and are not searched."""

TABLE_SUFFIXES = (".csv", ".tsv", ".gz", ".txt", ".json", ".xlsx")


def open_cached(data: DataSpec) -> ChestDataset:
    """Open a data set, or return the opened one if its folder and tables have not changed."""
    changed = 0 if data.root is None else _last_change(data.root.expanduser())
    return _open(data.source().model_copy(update={"fold": data.fold}), changed)


@lru_cache(maxsize=8)
def _open(data: DataSpec, changed: int) -> ChestDataset:
    return open_data(data)


def _last_change(path: Path, depth: int = 2) -> int:
    """Return the last change of a folder, its tables and subfolders, in ns; 0 if it is missing."""
    try:
        times = [path.stat().st_mtime_ns]
        entries = list(os.scandir(path)) if path.is_dir() else []
        folders = [entry.path for entry in entries if entry.is_dir()]
        tables = [entry for entry in entries if entry.name.lower().endswith(TABLE_SUFFIXES)]
        times += [table.stat().st_mtime_ns for table in tables]
    except OSError:
        return 0
    if depth and len(folders) <= MANY:
        times += [_last_change(Path(folder), depth - 1) for folder in folders]
    return max(times)
