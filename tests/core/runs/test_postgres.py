"""What is particular to a store in PostgreSQL; test_store.py holds what both databases share."""

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.config.run import RunSpec
from core.errors import ConfigurationError, StoreError
from core.runs.store import open_store
from core.workspace import Workspace, open_workspace
from tests.support.paths import ROOT
from tests.support.programs import run_python


def at(place: Path, address: str) -> Workspace:
    return Workspace(place, address)


@pytest.mark.slow
def test_many_may_make_the_store_at_once(tmp_path: Path, postgres: str) -> None:
    code = (
        "import sys; from core.runs.store import open_store; from core.config.run import RunSpec; "
        "from core.workspace import Workspace; from pathlib import Path; "
        "open_store(Workspace(Path(sys.argv[1]), sys.argv[2]), create=True).create(RunSpec())"
    )
    command = [sys.executable, "-c", code, str(tmp_path), postgres]
    several = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
    assert [one.wait(120) for one in several] == [0] * 4
    assert len(open_store(at(tmp_path, postgres), create=False).list()) == 4


def test_tables_of_others_are_left_alone(tmp_path: Path, postgres: str) -> None:
    engine = sa.create_engine(postgres, poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE runs (song TEXT)")
    with pytest.raises(StoreError, match="other tables named runs"):
        open_store(at(tmp_path, postgres), create=True)
    with engine.begin() as connection:
        assert set(sa.inspect(connection).get_table_names()) == {"runs"}


def test_a_later_store_is_left_alone(tmp_path: Path, postgres: str) -> None:
    open_store(at(tmp_path, postgres), create=True)
    engine = sa.create_engine(postgres, poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE store SET version = 99")
    with pytest.raises(StoreError, match="version 99"):
        open_store(at(tmp_path, postgres), create=True)


def test_a_server_that_does_not_answer_is_told_without_the_password(tmp_path: Path) -> None:
    address = "postgresql://me:secret@127.0.0.1:1/runs?connect_timeout=2"
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        open_store(at(tmp_path, address), create=True)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["mysql://host/runs", "no address", "sqlite:///x.sqlite"])
def test_another_kind_of_address_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigurationError, match="not a PostgreSQL address"):
        open_store(at(tmp_path, address), create=True)


def test_the_environment_names_the_store(
    tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_STORE", postgres)
    run = open_store(open_workspace(tmp_path), create=True).create(RunSpec())
    assert run.id in run_python("-m", "core", "runs", "--json", "--workspace", tmp_path).out
    assert not list(tmp_path.glob("*.sqlite"))
