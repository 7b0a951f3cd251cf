"""What these tests share: the long version by CXR_LONG=1, and lines with counts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from core.workspace import Workspace, open_workspace

LONG = bool(os.environ.get("CXR_LONG"))


@pytest.fixture(scope="session")
def long() -> bool:
    """Whether the long version was asked for."""
    return LONG


@pytest.fixture(params=["sqlite", "postgresql"])
def anywhere(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    """A workspace with its store in each kind of data base."""
    if request.param == "postgresql":
        monkeypatch.setenv("CXR_STORE", request.getfixturevalue("postgres"))
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def count(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a line with what was counted, whether or not pytest shows output."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n  {line}", flush=True)

    return say
