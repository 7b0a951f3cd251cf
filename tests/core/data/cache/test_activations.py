"""Activations on disk: whole or not there, and within their room."""

import os
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest

from core.data.cache import disk_space
from core.data.cache.activations import Activations, InMemory
from core.data.cache.shards import INDEX

SIZE = 40


def arrays(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, SIZE), np.uint8)


def sources(*names: str) -> dict[str, str]:
    return {name: f"made of {name}" for name in names}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / disk_space.FEATURES / "key"


@pytest.fixture
def kept(folder: Path) -> np.ndarray:
    """Arrays a, b and c, kept by a run that has ended."""
    values = arrays(3)
    Activations(folder, SIZE).add(sources("a", "b", "c"), values)
    return values


def test_another_run_finds_what_was_made_of_the_same(folder: Path, kept: np.ndarray) -> None:
    again = Activations(folder, SIZE)
    assert again.find(sources("c", "d", "a") | {"b": "another picture"}) == {"a", "c"}
    assert np.array_equal(again.get("c"), kept[2])
    assert not again.get("c").flags.writeable
    assert Activations(folder, SIZE + 1).find(sources("a")) == set()


def test_a_damaged_array_is_not_found(folder: Path, kept: np.ndarray) -> None:
    (file,) = folder.glob("*.u8")
    whole = bytearray(file.read_bytes())
    whole[SIZE + 4 + 7] ^= 1
    file.write_bytes(whole)
    damaged = Activations(folder, SIZE)
    assert damaged.find(sources("a", "b", "c")) == {"a", "c"}
    damaged.add(sources("b"), kept[1:2])
    assert Activations(folder, SIZE).find(sources("a", "b", "c")) == {"a", "b", "c"}
    file.write_bytes(whole[:-1])
    assert Activations(folder, SIZE).find(sources("a", "b", "c")) == {"a", "b"}
    (folder / INDEX).write_bytes(b"no index" * 200)
    assert Activations(folder, SIZE).find(sources("a", "b", "c")) == set()
    with sqlite3.connect(folder / INDEX) as index:
        assert index.execute("SELECT count(*) FROM pictures").fetchone() == (0,)
    index.close()


def test_a_share_of_the_free_disk_and_the_limit_bound_them(
    folder: Path, kept: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Activations(folder, SIZE)
    free = disk_space.shutil.disk_usage(folder)._replace(free=100 * (SIZE + 4))
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: free)
    assert store.affords(25)
    assert not store.affords(26)
    images = folder.parent.parent / disk_space.IMAGES / "set-32"
    images.mkdir(parents=True)
    (images / "some.u8").write_bytes(bytes(1000))
    taken = 1000 + disk_space.size_of(folder)
    monkeypatch.setenv(disk_space.LIMIT, str((taken + 10 * (SIZE + 4)) / 1e9))
    assert store.affords(10)
    assert not store.affords(11)


def test_what_no_run_used_for_long_is_removed(folder: Path, kept: np.ndarray) -> None:
    old, recent = folder.parent / "old", folder.parent / "recent"
    Activations(old, SIZE).add(sources("a"), arrays(1))
    images = folder.parent.parent / disk_space.IMAGES / "set-32"
    images.mkdir(parents=True)
    Activations(recent, SIZE)
    days = {folder: 20, old: 15, recent: 13, images: 400}
    for one, since in days.items():
        os.utime(one, (time.time() - since * 86_400,) * 2)
    size = disk_space.size_of(old)
    again = Activations(folder, SIZE)
    assert again.removed == size > SIZE
    assert [one.exists() for one in (folder, old, recent, images)] == [True, False, True, True]
    assert again.find(sources("a", "b", "c")) == {"a", "b", "c"}
    os.utime(recent, (time.time() - 15 * 86_400,) * 2)
    assert Activations(folder, SIZE).removed > 0
    assert folder.exists()  # it was noted as used


def test_memory_keeps_its_own_copy() -> None:
    store, values = InMemory(), arrays(2)
    store.add(sources("a", "b"), values)
    first = values[0].copy()
    values[:] = 0
    assert store.find(sources("a", "d")) == {"a"}
    assert np.array_equal(store.get("a"), first)
    assert store.affords(10**12)
