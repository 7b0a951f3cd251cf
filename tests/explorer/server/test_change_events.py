"""The store's version for requests of every second."""

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from core.config.run import RunSpec
from core.runs.store import Store
from core.workspace import Workspace
from explorer.server import change_events, store_version
from explorer.server.store_version import StoreVersion


def client(store: Store) -> TestClient:
    return TestClient(Starlette(routes=[change_events.route(StoreVersion(store))]))


def test_the_version_rises_with_each_change(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_version, "REFRESH_SECONDS", 0.0)
    served = client(store)
    before = int(served.get("/api/version").text)
    assert before == store.version() == int(served.get("/api/version").text)
    store.create(RunSpec())
    assert int(served.get("/api/version").text) > before


def test_many_requests_cost_one_reading(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_version, "REFRESH_SECONDS", 3600.0)
    read = []
    version = store.version
    monkeypatch.setattr(store, "version", lambda: read.append("read") or version())
    served = client(store)
    answers = {served.get("/api/version").text for _ in range(5)}
    assert (len(read), len(answers)) == (1, 1)


def test_an_unreadable_store_is_an_error_with_its_reason(
    store: Store, workspace: Workspace
) -> None:
    served = client(store)
    store.close()
    workspace.store.write_bytes(b"no data base" * 100)
    answer = served.get("/api/version")
    assert answer.status_code == 503
    assert "data base" in answer.text or "database" in answer.text
