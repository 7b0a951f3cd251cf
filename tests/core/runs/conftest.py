"""A store, the tiny run's command line, and patience."""

import sys
import time
from collections.abc import Callable

import pytest

from core.runs.store import Run, Store, open_store
from core.workspace import Workspace
from tests.support.paths import ROOT

TINY = ROOT / "tests" / "support" / "tiny_run.py"


@pytest.fixture
def store(workspace: Workspace) -> Store:
    return open_store(workspace, create=True)


@pytest.fixture
def command(workspace: Workspace) -> Callable[[Run], list[str]]:
    return lambda run: [sys.executable, str(TINY), run.id, str(workspace.root)]


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait until something is true, and fail with what was waited for if it never is."""

    def wait(condition: Callable[[], object], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    return wait
