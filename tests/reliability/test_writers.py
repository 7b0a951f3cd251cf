"""Eight processes write curves at once: no row is lost, and nobody is told of a locked store."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from core.config.run import RunSpec
from core.runs.store import open_store
from core.workspace import Workspace
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

WRITERS, BATCH = 8, 20
ROWS, ROWS_LONG = 500, 20_000
CODE = """
import sys, time
from core.runs.store import open_store
from core.workspace import open_workspace
root, run, rows, batch, pause = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
store = open_store(open_workspace(root), create=False)
for first in range(0, rows, batch):
    values = [("train/loss", 1 / (i + 1), i, i) for i in range(first, first + batch)]
    store.log_metrics(run, values, progress=first / rows)
    time.sleep(pause / 1000)
"""


def test_no_row_is_lost(anywhere: Workspace, long: bool, count: Callable[[str], None]) -> None:
    store = open_store(anywhere, create=True)
    runs = [store.create(RunSpec()) for _ in range(WRITERS)]
    rows = ROWS_LONG if long else ROWS
    began = time.monotonic()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, anywhere.root, run.id, str(rows), str(BATCH), "0"],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )
        for run in runs
    ]  # fmt: skip
    said = [writer.communicate()[1] for writer in writers]
    seconds = time.monotonic() - began
    assert [writer.returncode for writer in writers] == [0] * WRITERS, said
    for run in runs:
        steps = [row.step for row in store.metrics(run.id)]
        assert steps == list(range(rows))
    kind = "PostgreSQL" if anywhere.database else "SQLite"
    count(
        f"{kind}: {WRITERS} processes wrote {WRITERS * rows:,} rows in {seconds:.1f} s: none lost, "
        f"no store locked"
    )
    assert not any("locked" in words for words in said)
