"""SIGKILL at random moments: a resumed run ends as one that was never killed, bit by bit."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.config.run import RunSpec
from core.runs import queue
from core.runs.lost_runs import reconcile
from core.runs.run import ACTIVE, RunState
from core.runs.store import Store
from core.workspace import RESULT, Workspace
from tests.core.conftest import radiographs
from tests.support import training

pytestmark = pytest.mark.slow

__all__ = ["radiographs"]

METHODS = ("lora", "full", "linear", "lora by budget")
KILLS, KILLS_LONG = 3, 50


def spec_of(root: Path, named: str) -> RunSpec:
    method, _, budget = named.partition(" by ")
    return RunSpec.of(
        **{
            "data.name": "folder", "data.root": root, "data.label_fraction": 1.0,
            "model.backbone": "timm:test_vit", "model.pretrained": False, "model.input_size": 64,
            "adapter.method": method, "train.epochs": 6, "train.batch_size": 8,
            "train.device": "cpu", "train.validation": budget or "every-epoch",
            "train.validation_share": 0.06 if budget else 0.2,
        }
    )  # fmt: skip


def end_of(store: Store, workspace: Workspace, run_id: str) -> tuple[str, Any, list[Any]]:
    """Hash of the weights, scores, and the metric rows but those that tell the speed."""
    result = json.loads((workspace.run(run_id) / RESULT).read_text())
    rows = store.metrics(run_id)
    assert [row.row for row in rows] == list(range(len(rows)))
    kept = [(r.name, r.value, r.epoch, r.step) for r in rows if r.name != "train/images_per_s"]
    return result["weights_sha256"], result["scores"], kept


def test_a_killed_run_ends_as_if_it_had_not_been(
    store: Store, workspace: Workspace, radiographs: Path, long: bool, count: Callable[[str], None]
) -> None:
    draw = random.Random(6)
    straight, seconds = {}, {}
    for method in METHODS:
        run = queue.submit(store, spec_of(radiographs, method))
        training.complete(store, workspace, run.id)
        done = store.get(run.id)
        assert done.started_at is not None
        assert done.finished_at is not None
        straight[method] = end_of(store, workspace, run.id)
        seconds[method] = done.finished_at - done.started_at
    met: Counter[str] = Counter()
    same = late = 0
    kills = KILLS_LONG if long else KILLS
    while sum(met.values()) < kills:
        method = METHODS[sum(met.values()) % len(METHODS)]
        run = queue.submit(store, spec_of(radiographs, method))
        process = training.start(workspace, run.id)
        while store.get(run.id).state is RunState.QUEUED:
            time.sleep(0.005)
        time.sleep(draw.random() * 0.9 * seconds[method])
        seen = store.get(run.id)
        training.kill(process)
        if store.get(run.id).state not in ACTIVE:
            late += 1  # it had ended; this was no kill
            continue
        met[(seen.phase or "starting").split(",")[0].split(" 1")[0]] += 1
        reconcile(store)
        state = store.get(run.id).state
        if state is not RunState.QUEUED:  # one that had not begun waits again by itself
            assert state is RunState.LOST
            queue.resume(store, run.id)
        training.complete(store, workspace, run.id)
        for found, expected in zip(end_of(store, workspace, run.id), straight[method], strict=True):
            assert found == expected, (method, seen.phase, seen.progress)
        assert not list(workspace.run(run.id).rglob("*.part"))
        same += 1
    phases = ", ".join(f"{number} {phase}" for phase, number in met.most_common())
    count(f"{kills} SIGKILLs over {', '.join(METHODS)} ({phases}): {same} identical ends")
    assert same == kills
