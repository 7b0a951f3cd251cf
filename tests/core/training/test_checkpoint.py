"""Runs that are stopped, killed or out of disk space, and resumed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import DataError, Stopped
from core.training import checkpoint, loop
from core.workspace import SPEC
from tests.support.reporters import Fatal, Killed, Notes

Run = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "linear", "adalora", "lora+"])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(run: Run, method: str) -> None:
    whole, parts = Notes(), Notes()
    folder, result = run("whole", whole, adapter__method=method)
    # In an epoch, at once again, before a validation, in it, and in the last prediction.
    for stop in (2, 1, 1, 1, 4, 2):
        parts.stop, parts.asked = stop, 0
        with pytest.raises(Stopped):
            run("parts", parts, resume=True, adapter__method=method)
    parts.stop = None
    stopped, same = run("parts", parts, resume=True, adapter__method=method)
    assert same["weights_sha256"] == result["weights_sha256"]
    assert same["scores"] == result["scores"]
    assert parts.curves() == whole.curves()
    for split in ("val", "test"):
        pair = [np.load(one / "predictions" / f"{split}.npz") for one in (folder, stopped)]
        with pair[0] as one, pair[1] as other:
            assert np.array_equal(one["scores"], other["scores"])


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Notes()
    _, result = run("whole", whole)
    fatal = Fatal(stop=5)
    with monkeypatch.context() as quick:
        quick.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(Killed):
            run("killed", fatal)
    notes = Notes()
    notes.metrics = fatal.metrics
    _, same = run("killed", notes, resume=True)
    assert same["weights_sha256"] == result["weights_sha256"]
    assert notes.curves() == whole.curves()


def test_resuming_what_never_began_starts_it(run: Run) -> None:
    notes = Notes()
    notes.metrics = [("train/loss", 1.0, 0.0, 0)]
    run(report=notes, resume=True, train__epochs=1)
    assert "no checkpoint" in " ".join(notes.lines)
    assert [name for name, *_ in notes.metrics].count("train/loss") == 3


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(run: Run) -> None:
    folder, _ = run(train__epochs=1)
    spec = (folder / SPEC).read_text()
    with pytest.raises(DataError, match="another specification"):
        run(resume=True, train__epochs=3)
    assert (folder / SPEC).read_text() == spec
    path = folder / checkpoint.CHECKPOINT
    whole = path.read_bytes()
    for damaged in (whole[:-100], b"", b"no checkpoint at all"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="cannot be read") as caught:
            run(resume=True, train__epochs=1)
        assert "start the run again" in caught.value.remedy


def test_a_full_disk_is_said_and_leaves_no_partial_file(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    partial = folder / f".{checkpoint.CHECKPOINT}.{os.getpid()}.part"
    partial.symlink_to("/dev/full")
    with pytest.raises(DataError, match="No space left") as caught:
        run("full")
    assert "Free space" in caught.value.remedy
    assert not partial.is_symlink()
    assert not (folder / checkpoint.CHECKPOINT).exists()
    _, result = run("full", resume=True)
    assert result["steps"] == 6


def test_a_run_that_goes_on_without_bad_pictures_resumes_with_the_same_ones(
    run: Run, altered, tmp_path: Path
) -> None:
    root = altered()
    broken = root / "train-07.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200])
    spec = {"data__root": root, "data__skip_bad": True, "train__epochs": 3}
    _, expected = run("straight", **spec)
    assert set(expected["skipped"]) == {"train-07.png"}
    assert expected["images"] == 39
    with pytest.raises(Stopped):
        run("stopped", Notes(stop=12), **spec)
    assert (tmp_path / "stopped" / "checkpoint.pt").exists()
    broken.write_bytes(whole)
    notes = Notes()
    _, result = run("stopped", notes, resume=True, **spec)
    assert result["skipped"] == expected["skipped"]
    assert any("train-07.png: " in line for line in notes.lines)
    assert result["weights_sha256"] == expected["weights_sha256"]
