"""Fixtures that several tests share: a workspace of its own, and the real radiographs."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["HF_HUB_OFFLINE"] = "1"

from core.workspace import Workspace, open_workspace

ROOT = Path(__file__).parent.parent


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace that is gone after the test."""
    return open_workspace(tmp_path / "workspace")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real radiographs, or a skip that says how to name it."""
    folder = os.environ.get("CXR_REAL_DATA")
    if not folder:
        pytest.skip("set CXR_REAL_DATA to the folder of the real radiographs")
    return Path(folder)
