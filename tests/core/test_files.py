"""Atomic file writes."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from core import files
from core.errors import DataError


@pytest.mark.parametrize(
    "content",
    [b"new", lambda file: torch.save({"new": torch.ones(100_000)}, file)],
    ids=["bytes", "torch"],
)
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    partial = tmp_path / f".file.{os.getpid()}.part"
    partial.symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"file cannot be written \(No space left") as caught:
        files.write_atomically(path, content)
    assert "resume" in caught.value.remedy
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    files.write_atomically(path, content)
    assert path.read_bytes() != b"old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="No such file"):
        files.write_atomically(tmp_path / "no folder" / "file", content)
