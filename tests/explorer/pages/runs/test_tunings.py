"""The tunings on the Runs page: progress, stop, continue and result."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from core.experiments.tune import background
from core.experiments.tune import study as studies
from core.experiments.tune.background import BackgroundTunings
from core.experiments.tune.overview import Overviews, TuningState
from core.runs.store import Store
from core.workspace import Workspace
from explorer.context import Context
from explorer.pages.runs.page import RunsPage, Selection
from explorer.pages.runs.tunings import Tunings
from tests.support.tuned_run import plan, served

EMPTY = Selection(run=None, follow=True, tuning=None)


@pytest.fixture
def page(store: Store, workspace: Workspace) -> RunsPage:
    inboxes: Any = dict.fromkeys(("runs", "launch", "compare", "saliency"))
    nothing: Any = None
    return RunsPage(Context(workspace, store, nothing, nothing, inboxes, {}))


def pressed(act: str, name: str) -> Any:
    return SimpleNamespace(_data={"act": act, "tuning": name})


def run_to_its_end(store: Store, name: str) -> None:
    tunings = BackgroundTunings(store, store.workspace)
    overviews = Overviews(store, studies.open_storage(store.workspace))
    until = time.monotonic() + 60
    with served(store, store.workspace):
        while overviews.get(name).state is not TuningState.COMPLETED:
            assert time.monotonic() < until
            tunings.step()
            time.sleep(0.01)


def test_a_workspace_without_tunings_shows_none(store: Store, workspace: Workspace) -> None:
    assert Tunings(store, workspace).panel("tune-1") == ""
    assert studies.existing_storage(workspace) is None


def test_a_tuning_is_selected_by_a_click_and_by_the_address(
    store: Store, workspace: Workspace, page: RunsPage
) -> None:
    name = background.submit(plan(), store, workspace)
    selection, _, tunings, *_ = page.show(EMPTY)
    assert f'id="tuning-{name}"' in tunings
    assert 'id="tuning"' not in tunings
    assert "LoRA\n    0 of 4" in tunings
    selection, _, tunings, *_ = page.act(selection, pressed("tuning", name))
    assert selection["tuning"] == name
    assert 'id="tuning"' in tunings
    assert "The tuning starts in a moment." in tunings
    assert f"&#34;tuning&#34;: &#34;{name}&#34;" in tunings
    selection, *_ = page.act(selection, pressed("tuning", name))
    assert selection["tuning"] is None
    selection, _, tunings, *_ = page.receive({"tuning": name}, selection)
    assert selection == EMPTY | Selection(tuning=name)
    assert 'id="tuning"' in tunings
    assert page.receive({"tuning": "gone"}, selection)[0]["tuning"] == "gone"


def test_it_is_stopped_and_continued(
    store: Store, workspace: Workspace, page: RunsPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[object] = []
    monkeypatch.setattr("explorer.pages.runs.page.warn", warned.append)
    name = background.submit(plan(), store, workspace)
    selection, _, tunings, *_ = page.act(EMPTY, pressed("tuning-stop", name))
    assert selection["tuning"] == name
    assert 'data-act="tuning-continue"' in tunings
    assert 'data-act="tuning-stop"' not in tunings
    page.act(selection, pressed("tuning-stop", name))
    page.act(selection, pressed("tuning-stop", "another"))
    assert [type(error).__name__ for error in warned] == ["RunError", "ConfigurationError"]
    _, _, tunings, *_ = page.act(selection, pressed("tuning-continue", name))
    assert 'data-act="tuning-stop"' in tunings
    run_to_its_end(store, name)


def test_the_result_has_the_verdict_and_opens_compare(
    store: Store, workspace: Workspace, page: RunsPage
) -> None:
    name = background.submit(plan(final_seeds=(1, 2, 3)), store, workspace)
    assert "Two methods need completed final runs" in Tunings(store, workspace).panel(name)
    run_to_its_end(store, name)
    _, _, tunings, *_ = page.show(EMPTY | Selection(tuning=name))
    assert "Chosen settings" in tunings
    assert "LoRA r 4 (tuned, 4 trials)" in tunings
    assert "6 of 6" in tunings
    *_, compare, _ = page.act(EMPTY, pressed("tuning-compare", name))
    runs = [store.get(run) for run in compare["runs"]]
    assert [run.spec.adapter.method for run in runs] == ["lora", "full"]
    assert all("tuned (4 trials)" in run.name for run in runs)
