"""Tiny runs, and copies of their radiographs with other labels."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.config.run import RunSpec
from core.reporter import NullReporter
from core.training import loop

Run = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path, tiny) -> Run:
    """Train a tiny run in a folder of its own."""

    def run_tiny(
        name: str = "run",
        report: NullReporter | None = None,
        resume: bool = False,
        spec: RunSpec | None = None,
        **changes: Any,
    ) -> tuple[Path, dict[str, Any]]:
        folder = tmp_path / name
        chosen = spec or tiny(**changes)
        return folder, loop.fine_tune(
            chosen, folder, tmp_path / "cache", report or NullReporter(), resume=resume
        )

    return run_tiny


@pytest.fixture
def altered(radiographs: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy the radiographs, with other labels in some splits."""

    def copy(splits: tuple[str, ...] = (), label: str = "0") -> Path:
        root = tmp_path / "altered"
        shutil.copytree(radiographs, root)
        with (root / "labels.csv").open(newline="") as file:
            head, *rows = csv.reader(file)
        rows = [[*row[:3], label, label] if row[2] in splits else row for row in rows]
        with (root / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([head, *rows])
        return root

    return copy
