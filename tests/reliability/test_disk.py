"""A disk that fills up: the run fails with the reason, and what was written before stays whole."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from core.errors import StoreError
from core.runs import queue
from core.runs.run import RunState
from core.runs.store import open_store
from core.workspace import BEST, open_workspace
from tests.core.conftest import radiographs
from tests.reliability.test_kills import end_of, spec_of
from tests.support import training

pytestmark = pytest.mark.slow

__all__ = ["radiographs"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except OSError:
        pytest.skip("no program mounts a small disk here")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path, left: int) -> Path:
    """Fill the disk up to so many bytes."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(64 << 10))
        except OSError:
            pass
        file.truncate(max(0, file.tell() - left))
    return filler


def sound(file: Path) -> bool:
    with closing(sqlite3.connect(file)) as plain:
        return plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_full_disk_during_a_checkpoint(
    small_disk: Path,
    radiographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    count: Callable[[str], None],
) -> None:
    workspace = open_workspace(tmp_path / "workspace")
    store = open_store(workspace, create=True)
    spec = spec_of(radiographs, "full")
    straight = queue.submit(store, spec)
    training.complete(store, workspace, straight.id)
    run = queue.submit(store, spec)
    workspace.run(run.id).symlink_to(small_disk, target_is_directory=True)
    process = training.start(workspace, run.id)
    checkpoint = small_disk / "checkpoint.pt"
    while not (checkpoint.exists() and (small_disk / BEST).exists()):
        assert process.is_alive(), store.get(run.id).failure_reason
    filler = fill(small_disk, 100 << 10)
    process.join(120)
    failed = store.get(run.id)
    assert failed.state is RunState.FAILED, failed.state
    assert failed.failure_kind == "other"
    assert "No space left on device" in (failed.failure_reason or "")
    assert "Free space" in (failed.failure_remedy or "")
    assert sound(workspace.store)
    filler.unlink()
    queue.resume(store, run.id)
    training.complete(store, workspace, run.id)
    assert end_of(store, workspace, run.id) == end_of(store, workspace, straight.id)
    count("Disk full during a checkpoint: failed with the reason, the earlier one loaded, "
          "an identical end")  # fmt: skip


def test_a_full_disk_during_a_metric_write(
    small_disk: Path, radiographs: Path, count: Callable[[str], None]
) -> None:
    workspace = open_workspace(small_disk / "workspace")
    store = open_store(workspace, create=True)
    run = store.create(spec_of(radiographs, "lora"))
    values = [("train/loss", 0.1, 1.0, step) for step in range(200)]
    store.log_metrics(run.id, values)
    filler = fill(small_disk, 0)
    written, fault = 1, None
    while fault is None and written < 2000:
        try:
            store.log_metrics(run.id, values)
            written += 1
        except StoreError as error:
            fault = error
    assert "The disk of the store" in str(fault)
    assert store.count_metrics(run.id) == 200 * written
    filler.unlink()
    store.log_metrics(run.id, values)
    assert store.count_metrics(run.id) == 200 * (written + 1)
    store.close()
    assert sound(workspace.store)
    count(f"Disk full during a metric write: told, {200 * (written + 1):,} rows whole, store sound")
