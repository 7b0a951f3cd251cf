import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from core.config.run import RunSpec
from core.runs.run import RunState
from core.runs.store import Store
from core.workspace import Workspace
from explorer.server import runs_json, store_version
from explorer.server.gradio_api import summary
from explorer.server.store_version import StoreVersion


def client(store: Store) -> TestClient:
    listing = runs_json.Listing(store, StoreVersion(store))
    return TestClient(Starlette(routes=[runs_json.route(listing)]))


def test_all_runs_are_listed_as_by_the_endpoints(store: Store) -> None:
    runs = [store.create(RunSpec(), name=name) for name in ("first", "second")]
    store.update(runs[0].id, progress=0.5, best_auroc=0.75)
    served = TestClient(
        Starlette(routes=[runs_json.route(runs_json.Listing(store, StoreVersion(store)))])
    )
    answer = served.get("/api/runs")
    assert answer.status_code == 200
    assert answer.json() == [summary(store.get(run.id)) for run in reversed(runs)]
    assert served.post("/api/runs").status_code == 405


def test_unchanged_runs_are_not_sent_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_version, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(runs_json, "REST", 0.0)
    run = store.create(RunSpec())
    served = TestClient(
        Starlette(routes=[runs_json.route(runs_json.Listing(store, StoreVersion(store)))])
    )
    tag = {"If-None-Match": served.get("/api/runs").headers["ETag"]}
    assert served.get("/api/runs", headers=tag).status_code == 304
    store.request_stop(run.id)
    changed = served.get("/api/runs", headers=tag)
    assert changed.status_code == 200
    assert changed.json()[0]["state"] == RunState.STOPPED


def test_many_requests_cost_one_reading(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_version, "REFRESH_SECONDS", 3600.0)
    read = []
    outlines = store.outlines
    monkeypatch.setattr(store, "outlines", lambda: read.append("read") or outlines())
    found = runs_json.Listing(store, StoreVersion(store))
    answers = []
    for _ in range(5):
        store.create(RunSpec())
        answers.append(found.body())
    assert len(read) == 1
    assert answers == 5 * answers[:1]


def test_an_unreadable_store_is_an_error_with_its_reason(
    store: Store, workspace: Workspace
) -> None:
    served = TestClient(
        Starlette(routes=[runs_json.route(runs_json.Listing(store, StoreVersion(store)))])
    )
    store.close()
    workspace.store.write_bytes(b"no data base" * 100)
    answer = served.get("/api/runs")
    assert answer.status_code == 503
    assert "store" in answer.text
