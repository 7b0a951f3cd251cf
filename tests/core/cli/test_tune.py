"""``python -m core tune``: the plan, the tuning, and how it is continued."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.config import tuned
from core.config.run import RunSpec
from core.experiments.tune import tune as tunings
from core.runs.store import open_store
from core.workspace import Workspace, open_workspace
from tests.support.measured import note_speed
from tests.support.tuned_run import served

WORDS = ("tune", "--methods", "lora,full", "--trials", "2", "--final-seeds", "2", "--epochs", "2",
         "--device", "cpu", "--executor", "none", "--no-prune")  # fmt: skip


@pytest.fixture(autouse=True)
def speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(tunings, "POLL_SECONDS", 0.02)
    workspace = open_workspace(tmp_path / "workspace")
    note_speed(workspace.cache)
    return workspace


def test_the_plan_is_shown_before_anything_runs(
    invoke: Callable[..., Any], speed: Workspace
) -> None:
    shown = invoke(*WORDS, "--search", "lr,rank", "--rank", "8", "--dry-run", "--json").json
    assert shown["name"].startswith("tune-")
    assert shown["seconds"] > 0
    assert [setting["name"] for setting in shown["spaces"]["lora"]] == ["lr"]  # the rank is given
    assert shown["plan"]["final_seeds"] == [1, 2]
    text = invoke(*WORDS, "--dry-run").out
    assert "2 trials of each method with the seeds 0" in text
    assert "0.0002 to 0.04, log scale" in text
    assert open_store(speed, create=True).list() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--trials", "0"), "0 trials"),
        (("--trials", "2", "--budget", "5m"), "Both a number of trials and a training time"),
        (("--budget", "soon"), "not a duration"),
        (("--methods", "lora,lroa"), "Did you mean lora"),
        (("--methods", "vpt", "--backbone", "timm:test_resnet", "--no-pretrained"), ""),
        (("--seeds", "0,1", "--final-seeds", "1-3"), "for tuning and for the final runs: 1"),
        (("--seeds", "one"), "not a list of numbers"),
        (("--final-seeds", "0"), "no final seeds"),
        (("--lr", "0.1"), "has no free setting to tune; lr is given"),
        (("--seed", "3"), "one seed is given"),
        (("--search", "depth"), "Unknown setting to search"),
        (("--executor", "rey"), "Did you mean ray"),
    ],
)
def test_what_cannot_work_is_refused(
    invoke: Callable[..., Any], speed: Workspace, words: tuple[str, ...], message: str
) -> None:
    answer = invoke("tune", *words, "--yes")
    assert answer.fault is not None
    assert message in str(answer.fault)
    assert answer.fault.remedy
    assert open_store(speed, create=True).list() == []


def test_a_tuning_is_run_written_and_continued(
    invoke: Callable[..., Any], speed: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "defaults.json"
    words = (*WORDS, "--name", "mine", "--yes")
    store = open_store(speed, create=True)
    with served(store, speed):
        first = invoke(*words, "--json", "--write", file)
        again = invoke("tune", "--name", "mine", "--executor", "none", "--yes", "--json")
        text = invoke("tune", "--name", "mine", "--executor", "none", "--yes").out
        other = invoke(*WORDS, "--name", "mine", "--trials", "3", "--yes")
    assert first.code == 0
    assert first.json["complete"]
    assert first.json == again.json
    assert len(store.list()) == 2 * (2 + 2)
    assert [each["trials"] for each in first.json["methods"]] == [2, 2]
    assert "Chosen settings" in text
    assert "LoRA r 4 (tuned, 2 trials)" in text
    assert "with other settings" in str(other.fault)
    monkeypatch.setattr(tuned, "FILE", file)
    assert len(json.loads(file.read_text())["defaults"]) == 2
    rate = first.json["methods"][0]["settings"]["lr"]
    queued = invoke("submit", "--epochs", "2", "--device", "cpu", "--json").json
    stored = store.get(queued["id"])
    assert stored.spec.train.lr == pytest.approx(rate, rel=0.01)
    kept = invoke("submit", "--lr", "0.5", "--device", "cpu", "--json").json
    assert store.get(kept["id"]).spec.train.lr == 0.5
    swept = invoke("sweep", "--methods", "lora,full", "--seeds", "7", "--yes", "--json").json
    rates = {run.spec.adapter.method: run.spec.train.lr
             for run in map(store.get, (each["id"] for each in swept["queued"]))}  # fmt: skip
    assert rates["lora"] == stored.spec.train.lr
    assert rates["full"] not in (None, rates["lora"])
    assert RunSpec().resolved().train.lr == 0.002
