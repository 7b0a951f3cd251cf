"""Folders that cannot be read, which root can: tried by a process that has given its rights up."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.config.run import DataSpec
from core.data.base import MISSING
from core.data.datasets.registry import open_data
from tests.support.layouts import LAYOUTS
from tests.support.programs import output_of

OPEN = """
import json, os, sys
from pathlib import Path
from core.data.datasets.registry import open_dataset
from core.errors import DataError
name, root, locked = sys.argv[1:4]
dataset = open_dataset(name, root, **json.loads(sys.argv[4]))
for one in dataset.table.index[:3]:  # what reading loads, it loads before the rights are gone
    dataset.read(one)
Path(locked).chmod(0)
if os.geteuid() == 0:
    os.setuid(65534)
try:
    dataset.read(sys.argv[5])
    print("read")
except DataError as error:
    print(json.dumps(["read", error.cause, error.remedy]))
try:
    open_dataset(name, root, **json.loads(sys.argv[4]))
    print("opened")
except DataError as error:
    print(json.dumps(["open", error.cause, error.remedy]))
"""


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that others may enter, unlike those of pytest."""
    place = Path(tempfile.mkdtemp(prefix="cxr-"))
    place.chmod(0o755)
    yield place
    for one in place.rglob("*"):
        if not os.access(one, os.R_OK) or one.is_dir():
            one.chmod(0o755)
    shutil.rmtree(place)


def answers(layout: Any, locked: Path, study: str) -> list[list[str]]:
    options = json.dumps(layout.options)
    printed = output_of(OPEN, layout.name, layout.root, locked, options, study)
    return [json.loads(line) for line in printed.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nih", "rsna", "folder-flat", "folder-table"])
def test_a_folder_without_read_permission_is_explained(name: str, open_place: Path) -> None:
    layout = LAYOUTS[name](open_place / "root")
    study = next(iter(layout.files))
    folder = layout.files[study].parent
    read, opened = answers(layout, folder, study)
    assert read[0] == "read"
    assert "Permission denied" in read[1]
    assert read[2]
    assert opened[0] == "open"
    assert str(folder) in opened[1] or "missing" in opened[1]
    assert opened[2]


def test_an_image_without_read_permission_is_explained(open_place: Path) -> None:
    layout = LAYOUTS["folder-table"](open_place / "root")
    study = next(iter(layout.files))
    program = OPEN.replace(
        "open_dataset(name, root, **json.loads(sys.argv[4]))\n    print",
        "dataset.read(sys.argv[5])\n    print",
    )
    printed = output_of(program, layout.name, layout.root, layout.files[study], "{}", study)
    for line in printed.splitlines():
        assert "cannot be read (Permission denied)" in json.loads(line)[1]


@pytest.mark.parametrize("name", ["nih", "chexpert", "rsna", "folder-table"])
def test_missing_images_can_be_left_out(name: str, open_place: Path) -> None:
    layout = LAYOUTS[name](open_place / "root")
    lost = list(layout.files)[3:5]
    for one in lost:
        layout.files[one].unlink()
    found = open_data(DataSpec(name=layout.name, root=layout.root, skip_bad=True))
    assert dict(found.skipped) == dict.fromkeys(lost, MISSING)
    assert set(found.table.index) == set(layout.files) - set(lost)
    assert not set(found.files) & set(lost)  # type: ignore[attr-defined]
