"""A store in a file: made whole, brought up to this version, and never overwritten."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from core.config.run import RunSpec
from core.errors import StoreError
from core.runs.store import Store, open_store
from core.workspace import Workspace, open_workspace
from tests.support import paths
from tests.support.paths import ROOT

GOLDEN = paths.GOLDEN / "runs"
SPEC = RunSpec.of(**{"data.name": "phantom-5", "adapter.rank": 8})


def test_a_workspace_may_have_a_strange_name(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path / "what? 100% #1 – größer")
    run = open_store(workspace, create=True).create(SPEC)
    assert workspace.store.exists()
    assert open_store(workspace, create=False).get(run.id) == run


@pytest.mark.parametrize("damage", ["text", "empty", "half", "other", "zeros"])
def test_a_damaged_store_is_told_and_left_as_it_is(workspace: Workspace, damage: str) -> None:
    if damage == "other":
        with closing(sqlite3.connect(workspace.store)) as other:
            other.execute("CREATE TABLE songs (name TEXT)")
    elif damage in ("text", "empty"):
        workspace.store.write_text("not a data base" * 100 if damage == "text" else "")
    else:
        store = open_store(workspace, create=True)
        for _ in range(20):
            run = store.create(SPEC)
            store.log_metrics(run.id, [("train/loss", 0.1, 1.0, i) for i in range(50)])
        store.close()
        whole = workspace.store.read_bytes()
        left = whole[: len(whole) // 2] if damage == "half" else b"\0" * len(whole)
        workspace.store.write_bytes(left)
    before = workspace.store.read_bytes()
    with pytest.raises(StoreError, match="Move store") as caught:
        open_store(workspace, create=True)
    assert "damaged or not a store" in caught.value.cause
    assert workspace.store.read_bytes() == before
    assert [file.name for file in workspace.root.iterdir() if "sqlite" in file.name] == [
        "store.sqlite"
    ]


def test_a_store_of_another_version_is_left_alone(workspace: Workspace, store: Store) -> None:
    store.close()
    with closing(sqlite3.connect(workspace.store)) as plain:
        plain.execute("UPDATE store SET version = 99")
        plain.commit()
    with pytest.raises(StoreError, match="version 99"):
        open_store(workspace, create=True)


def test_a_new_store_is_not_given_an_old_journal(workspace: Workspace) -> None:
    journal = workspace.root / "store.sqlite-wal"
    journal.write_bytes(b"changes that were never copied")
    with pytest.raises(StoreError, match="journal"):
        open_store(workspace, create=True)
    assert not workspace.store.exists()
    assert journal.exists()


def test_many_may_make_the_store_at_once(workspace: Workspace) -> None:
    code = (
        "import sys; from core.runs.store import open_store; from core.config.run import RunSpec; "
        "from core.workspace import open_workspace; "
        "open_store(open_workspace(sys.argv[1]), create=True).create(RunSpec())"
    )
    several = [
        subprocess.Popen([sys.executable, "-c", code, str(workspace.root)], cwd=ROOT)
        for _ in range(4)
    ]
    assert [one.wait(60) for one in several] == [0] * 4
    assert len(open_store(workspace, create=False).list()) == 4
    assert not list(workspace.root.glob(".store*"))
