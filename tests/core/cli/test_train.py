"""``python -m core train --folds``: one run per fold, and their joined scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.evaluation.predictions import read_predictions
from core.runs.store import open_store
from core.workspace import open_workspace


def words(root: Path) -> list[object]:
    text = (
        f"--data folder --root {root} --label-fraction 1 --backbone timm:test_vit --no-pretrained "
        "--input-size 64 --epochs 1 --batch-size 16 --device cpu --method linear"
    )
    return list(text.split())


def test_the_folds_are_runs_and_their_predictions_are_joined(
    invoke: Callable[..., Any], radiographs: Path, tmp_path: Path
) -> None:
    value = invoke("train", "--json", "--folds", 3, *words(radiographs)).json
    assert (value["completed_now"], value["failed"]) == (3, [])
    workspace = open_workspace(tmp_path / "workspace")
    runs = open_store(workspace, create=False).list()
    assert {run.spec.data.fold for run in runs} == {"1/3", "2/3", "3/3"}
    tested = [read_predictions(workspace.run(run.id)) for run in runs]
    ids = [str(study) for each in tested for study in each.ids]
    assert len(ids) == len(set(ids)) == value["joined"]["studies"] == 52  # 40 + 12 studies
    assert not any(study.startswith("test") for study in ids)
    again = invoke("train", "--json", "--folds", 3, *words(radiographs)).json
    assert (again["completed_now"], again["joined"]) == (0, value["joined"])
    scores = invoke("evaluate", runs[0].id, "--folds", "--json").json
    assert scores["macro"] == value["joined"]["macro"]
    assert invoke("evaluate", runs[0].id, "--json").json["studies"] < 52
    plain = invoke("train", "--json", *words(radiographs)).json
    assert "not a fold" in str(invoke("evaluate", plain["id"], "--folds").fault)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folds", 2], "2 folds are not possible"),
        (["--folds", 50], "patients for 50 folds"),
        (["--folds", 3, "--name", "mine"], "supports neither --name"),
    ],
)
def test_folds_that_are_not_possible_are_refused_before_a_run_exists(
    invoke: Callable[..., Any],
    radiographs: Path,
    tmp_path: Path,
    options: list[object],
    message: str,
) -> None:
    assert message in str(invoke("train", *options, *words(radiographs)).fault)
    assert not (tmp_path / "workspace" / "runs").exists() or not list(
        (tmp_path / "workspace" / "runs").iterdir()
    )
