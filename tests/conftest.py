"""Fixtures that several tests share: a workspace of its own, and the real radiographs."""

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# The processes that share the tests would get in each other's way with more threads.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["HF_HUB_OFFLINE"] = "1"

from core.runs.store import Store, open_store
from core.workspace import Workspace, open_workspace
from tests.support import chromium as chromium_here


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the notebooks: as one file, they would keep a process at the end."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace that is gone after the test."""
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def store(workspace: Workspace) -> Store:
    """An empty store of runs."""
    return open_store(workspace, create=True)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that several workspaces may share, so that the shipped phantoms are drawn once."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # the workers' folders stand beside each other
        base = base.parent
    place = base / "pictures"
    place.mkdir(exist_ok=True)
    return place


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Address of a PostgreSQL server: the one that CXR_TEST_POSTGRES names, or one made here."""
    named = os.environ.get("CXR_TEST_POSTGRES")
    if named:
        yield named
        return
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs or importlib.util.find_spec("psycopg") is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql, or set CXR_TEST_POSTGRES")
    place = Path(tempfile.mkdtemp(prefix="cxr-pg-", dir="/tmp"))  # a socket's path is short
    user: dict[str, Any] = {}
    if os.getuid() == 0:  # the server refuses to be run by root
        shutil.chown(place, "postgres", "postgres")
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
    data = place / "data"
    make = [programs[-1] / "initdb", "-D", data, "-U", "cxr", "-A", "trust", "-N"]
    subprocess.run(make, check=True, capture_output=True, cwd=place, **user)
    serve = [programs[-1] / "postgres", "-D", data, "-k", place, "-c", "listen_addresses="]
    server = subprocess.Popen(
        [*serve, "-c", "fsync=off"], stderr=subprocess.DEVNULL, cwd=place, **user
    )
    try:
        yield f"postgresql+psycopg://cxr@/postgres?host={place}"
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait()
        shutil.rmtree(place)


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """Address of an empty PostgreSQL data base that is gone after the test."""
    import sqlalchemy as sa

    url = sa.make_url(postgres_server)
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    name = f"test_{secrets.token_hex(6)}"
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    _answering(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    joined = url.update_query_dict({"options": f"-csearch_path={name}"})
    yield joined.render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")


def _answering(engine: Any) -> None:
    import sqlalchemy as sa

    end = time.monotonic() + 30
    while True:
        try:
            engine.connect().close()
            return
        except sa.exc.OperationalError:
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real radiographs, or a skip that says how to name it."""
    folder = os.environ.get("CXR_REAL_DATA")
    if not folder:
        pytest.skip("set CXR_REAL_DATA to the folder of the real radiographs")
    return Path(folder)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium, or a skip that says where to get one."""
    if chromium_here.program() is None:
        pytest.skip(chromium_here.MISSING)
    with chromium_here.launched() as browser:
        yield browser
