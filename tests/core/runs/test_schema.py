"""Stores of earlier versions, as the program of that time wrote them."""

import math
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from core.runs import schema
from core.runs.run import RunState
from core.runs.store import Store, open_store
from core.workspace import Workspace
from tests.support import paths

GOLDEN = paths.GOLDEN / "runs"
EARLIER = sorted(GOLDEN.glob("store_v*.sql"))


@pytest.fixture(params=EARLIER, ids=lambda file: file.stem)
def earlier(request: pytest.FixtureRequest, workspace: Workspace) -> Workspace:
    with closing(sqlite3.connect(workspace.store)) as plain:
        plain.executescript(request.param.read_text())
        plain.execute("PRAGMA journal_mode=WAL")
    return workspace


def columns(file: Path) -> dict[str, set[tuple[object, ...]]]:
    """Name, type, NOT NULL and default of each table's columns; their order may differ."""
    with closing(sqlite3.connect(file)) as plain:
        return {
            table: {row[1:5] for row in plain.execute(f"PRAGMA table_info({table})")}
            for table in schema.tables.tables
        }


def indices(file: Path) -> dict[str, list[str]]:
    with closing(sqlite3.connect(file)) as plain:
        names = [row[0] for row in plain.execute("SELECT name FROM sqlite_master WHERE sql IS NOT "
                                                 "NULL AND type = 'index'")]  # fmt: skip
        return {
            name: [row[2] for row in plain.execute(f"PRAGMA index_info({name})")] for name in names
        }


def test_there_is_a_store_of_each_earlier_version() -> None:
    assert [file.stem for file in EARLIER] == [f"store_v{n}" for n in range(1, schema.VERSION)]
    assert set(schema.STEPS) == set(range(1, schema.VERSION))


def test_an_earlier_store_becomes_like_a_new_one(
    earlier: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = open_store(earlier, create=False)
    new = Workspace(tmp_path_factory.mktemp("new"))
    open_store(new, create=True)
    assert columns(earlier.store) == columns(new.store)
    assert indices(earlier.store) == indices(new.store)
    store.close()
    again = open_store(earlier, create=False)
    assert len(again.list()) == 5


def test_an_earlier_store_keeps_what_it_knows_and_goes_on(earlier: Workspace) -> None:
    store = open_store(earlier, create=False)
    done = store.get("completed")
    assert done.state is RunState.COMPLETED
    assert (done.best_auroc, done.spec.adapter.rank, done.pid) == (0.7, 8, 4711)
    assert done.scores is not None
    assert done.scores["test"]["auroc"] == 0.71
    assert done.environment is not None
    # Its phantoms are of an earlier edition, and another run on them is not the same run.
    assert done.fingerprint != done.spec.fingerprint()
    assert done.spec.data.called == "phantom-5, earlier edition"
    rows = store.metrics(done.id)
    assert [row.step for row in rows if row.name == "val/auroc"] == [9, 19, 29]
    assert math.isnan(rows[-1].value)
    assert (done.priority, done.after, done.slot, done.exit_code) == (0, None, None, None)
    claimed = [store.claim_next({"cpu": 9}) for _ in range(3)]
    assert [run and run.name for run in claimed] == ["queued first", "queued second", None]
    assert store.transition(store.get("failed").id, RunState.QUEUED).state is RunState.QUEUED
    # A run that starts now is on the present phantoms, whenever it was queued.
    started = store.transition(store.get("queued first").id, RunState.RUNNING)
    assert started.fingerprint == started.spec.fingerprint()
    assert started.spec.data.called is None


def test_several_may_open_an_earlier_store_at_once(earlier: Workspace) -> None:
    opened: list[Store] = []
    threads = [
        threading.Thread(target=lambda: opened.append(open_store(earlier, create=False)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(store.list()) for store in opened] == [5] * 8
