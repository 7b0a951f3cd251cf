"""Data sets that were opened, kept for the next use."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from core.config.run import DataSpec
from core.data.base import ChestDataset
from core.data.datasets.registry import open_data

MANY = 1000
"""Folders in one folder beyond which these are a data set's patients, and not looked into."""

TABLES = (".csv", ".tsv", ".gz", ".txt", ".json", ".xlsx")


def open_cached(data: DataSpec) -> ChestDataset:
    """Open a data set, or return the opened one if its folder and tables have not changed since."""
    return _open(data.source(), 0 if data.root is None else _last_change(data.root.expanduser()))


@lru_cache(maxsize=8)
def _open(data: DataSpec, changed: int) -> ChestDataset:
    return open_data(data)


def _last_change(place: Path, depth: int = 2) -> int:
    """When a folder, the tables in it or the folders below last changed; 0 if it is not there."""
    try:
        times = [place.stat().st_mtime_ns]
        inside = list(os.scandir(place)) if place.is_dir() else []
        folders = [one.path for one in inside if one.is_dir()]
        times += [one.stat().st_mtime_ns for one in inside if one.name.lower().endswith(TABLES)]
    except OSError:
        return 0
    if depth and len(folders) <= MANY:
        times += [_last_change(Path(one), depth - 1) for one in folders]
    return max(times)
