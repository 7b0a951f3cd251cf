"""Completed runs of the grid whose quality is known, without training anything."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from core.runs.run import Run
from core.runs.store import Store, open_store
from core.workspace import Workspace, open_workspace
from tests.support.completed import completed

Complete = Callable[..., Run]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def store(workspace: Workspace) -> Store:
    return open_store(workspace, create=True)


@pytest.fixture
def complete(store: Store, workspace: Workspace) -> Complete:
    """Makes a completed run with predictions (see ``tests.support.completed``)."""
    return partial(completed, store, workspace)
