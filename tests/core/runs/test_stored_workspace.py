"""A workspace of version 0.1.0, before the packages were reorganised, is still usable.

``tests/golden/runs/workspace_v3`` holds its store as SQL and the files of its runs: a completed
LoRA run, a completed linear probe, a LoRA run stopped after 10 of 24 steps that equals the first,
and a queued run.
"""

import csv
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from core.cli.app import app
from core.config.run import RunSpec
from core.evaluation.predictions import read_predictions
from core.runs.run import Run
from core.runs.store import Store, open_store
from core.workspace import Workspace
from tests.support.paths import GOLDEN

STUDIES = {"train": 40, "val": 12, "test": 16}
LORA, LINEAR, STOPPED, QUEUED = "lora", "linear", "lora stopped", "full queued"
Verb = Callable[..., Any]


def write_radiographs(folder: Path) -> None:
    """The images of the runs: noise, half of them with a brighter corner."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    rows = []
    for split, count in STUDIES.items():
        for i in range(count):
            pixels = generator.integers(0, 128, (64, 64), dtype=np.uint8)
            opaque = i // 2 % 2
            if opaque:
                pixels[:32, :32] += 100
            name = f"{split}-{i:02d}.png"
            Image.fromarray(pixels).save(folder / name)
            rows.append((name, f"{split}{i // 2}", split, opaque))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "patient", "split", "Opacity"), *rows])


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A copy of the stored workspace, beside the images that its runs name relatively."""
    golden, workspace = GOLDEN / "runs" / "workspace_v3", Workspace(tmp_path / "workspace")
    shutil.copytree(golden / "runs", workspace.root / "runs")
    with closing(sqlite3.connect(workspace.store)) as connection:
        connection.executescript((golden / "store.sql").read_text())
        connection.execute("PRAGMA journal_mode=WAL")
    write_radiographs(tmp_path / "radiographs")
    monkeypatch.chdir(tmp_path)
    return workspace


@pytest.fixture
def verb(stored: Workspace) -> Verb:
    """Run a verb on the stored workspace and return its JSON value."""

    def run(*words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "--workspace", str(stored.root), "--json"])
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.stdout)

    return run


def speeds(store: Store, run: Run) -> list[float]:
    return [row.value for row in store.metrics(run.id, ["train/images_per_s"])]


def test_its_runs_are_listed_with_their_scores(verb: Verb) -> None:
    runs = {run["name"]: run for run in verb("runs")}
    assert {name: run["state"] for name, run in runs.items()} == {
        LORA: "completed", LINEAR: "completed", STOPPED: "stopped", QUEUED: "queued",
    }  # fmt: skip
    assert runs[LORA]["test_auroc"] == 0.90625
    shown = verb("show", LORA)
    assert shown["scores"]["test"]["per_finding"] == {"Opacity": 0.90625}
    assert shown["metric_rows"] > 24
    assert "predicted" in shown["memory"]


def test_its_fingerprints_are_those_of_today(stored: Workspace, verb: Verb) -> None:
    for run in open_store(stored, create=False).list():
        assert run.fingerprint == run.spec.fingerprint(), run.name
        spec = stored.run(run.id) / "spec.json"
        if spec.exists():
            assert RunSpec.from_json(spec.read_text()).fingerprint() == run.fingerprint


def test_its_runs_are_compared(verb: Verb) -> None:
    scores = verb("evaluate", LORA)
    assert scores["macro"]["value"] == pytest.approx(0.90625)
    difference = verb("evaluate", LORA, "--against", LINEAR)
    assert difference["studies"] == 16
    assert difference["macro"]["difference"]["value"] == pytest.approx(0.90625 - 1.0)


@pytest.mark.slow
def test_its_stopped_run_resumes_to_the_result_of_an_uninterrupted_one(
    stored: Workspace, verb: Verb
) -> None:
    store = open_store(stored, create=False)
    stopped, twin = store.get(STOPPED), store.get(LORA)
    assert stopped.fingerprint == twin.fingerprint
    before = speeds(store, stopped)
    assert verb("resume", STOPPED)["state"] == "queued"
    done = CliRunner().invoke(app, ["work", STOPPED, "--workspace", str(stored.root)])
    assert done.exit_code == 0, done.output
    run = store.get(STOPPED)
    assert (run.state, run.attempts) == ("completed", 2)
    # A speed is measured anew where an epoch is repeated: the first three were not.
    assert len(before) == 3
    assert speeds(store, run)[:3] == before
    steps = [[row.step for row in store.metrics(each.id, ["train/loss"])] for each in (run, twin)]
    assert steps[0] == steps[1]
    scores = [read_predictions(stored.run(each.id), "test").scores for each in (run, twin)]
    np.testing.assert_allclose(*scores, atol=1e-3)
