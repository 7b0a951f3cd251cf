"""A store, the command line of a tiny run, a run in this process, and waiting with a limit."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.config.run import RunSpec
from core.reporter import Reporter
from core.runs import queue, worker
from core.runs.run import Run
from core.runs.store import Store
from core.workspace import Workspace
from tests.support.paths import ROOT

TINY = ROOT / "tests" / "support" / "tiny_run.py"


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


@pytest.fixture
def do(store: Store, workspace: Workspace) -> Callable[..., tuple[Run, int]]:
    """Carry out a run in this process."""

    def carry_out(
        steps: Callable[[Reporter], dict[str, Any]], observer: Reporter | None = None
    ) -> tuple[Run, int]:
        def execute(
            spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
        ) -> dict[str, Any]:
            return steps(report)

        run = queue.claim_here(store, RunSpec())
        code = worker.work(store, workspace, run.id, execute, observer)
        return store.get(run.id), code

    return carry_out
