"""``ensemble`` and ``soup``: runs made of other runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.classifier.build import build_classifier
from core.classifier.trained import load_trained
from core.errors import ConfigurationError, CoreError
from core.evaluation.groups import Trial, grouped
from core.evaluation.predictions import read_predictions
from core.evaluation.verdict import measure
from core.models.backbones.build import network
from core.models.backbones.registry import backbone_card
from core.models.tuning.apply import merge_adapter
from core.reporter import NullReporter
from core.resources import preflight
from core.runs.store import open_store
from core.training.loop import fine_tune
from core.workspace import open_workspace
from tests.core.conftest import SIDE


@pytest.fixture
def train(invoke: Callable[..., Any], radiographs: Path, tmp_path: Path) -> Callable[..., str]:
    """Train a tiny run and return its id."""
    weights = tmp_path / "weights.pth"
    torch.manual_seed(3)
    torch.save(network(backbone_card("timm:test_vit"), 2, SIDE).state_dict(), weights)
    fixed = (
        f"--data folder --root {radiographs} --label-fraction 1 --backbone timm:test_vit "
        f"--weights {weights} --input-size {SIDE} --epochs 2 --batch-size 16 --device cpu "
        "--precision fp32 --lr 0.02"
    )

    def call(*options: object) -> str:
        return str(invoke("train", "--json", *fixed.split(), *options).json["id"])

    return call


def merged(folder: Path) -> dict[str, torch.Tensor]:
    """Weights of a run's model with its adapter merged, query, key and value in one matrix."""
    model = merge_adapter(load_trained(folder).model)
    return {name: value.double() for name, value in model.state_dict().items()}


def test_an_ensemble_is_a_run_with_the_mean_of_the_probabilities(
    invoke: Callable[..., Any], train: Callable[..., str], tmp_path: Path
) -> None:
    ids = [train("--seed", 0), train("--seed", 1, "--method", "linear")]
    made = invoke("ensemble", *ids, "--json").json
    workspace = open_workspace(tmp_path / "workspace")
    store = open_store(workspace, create=False)
    run = store.get(made["id"])
    assert (str(run.state), run.spec.adapter.members()) == ("completed", tuple(ids))
    assert run.name.startswith("Ensemble of 2 runs")
    for split in ("val", "test"):
        parts = [read_predictions(workspace.run(each), split) for each in (*ids, run.id)]
        rows = [np.argsort(part.ids) for part in parts]
        one, other, mean = (part.scores[row] for part, row in zip(parts, rows, strict=True))
        assert mean == pytest.approx((one + other) / 2, abs=1e-6)
        assert (parts[2].ids == parts[0].ids).all()
        assert parts[2].sex is not None
    scores = invoke("evaluate", run.id, "--json").json
    assert scores["macro"]["value"] == pytest.approx(made["scores"]["test"]["auroc"])
    assert "macro" in invoke("evaluate", run.id, "--against", ids[0], "--json").json
    assert [each["id"] for each in invoke("show", run.id, "--json").json["members"]] == ids
    groups = grouped(Trial(i, store.get(i).spec, workspace.run(i)) for i in (run.id, ids[0]))
    assert [group.title for group in groups] == ["ensemble of 2 runs", "LoRA r 4"]
    assert measure(*groups).paired
    invoke("delete", ids[1])
    assert invoke("show", run.id, "--json").json["members"][1] == {"id": ids[1], "name": None}
    study = ("--finding", "Plate", "--study", "test-00.png", "--out", tmp_path / "map.png")
    refused = invoke("explain", run.id, *study)
    assert f"Choose one of its members: {ids[0]}, {ids[1]}." in str(refused.fault)
    with pytest.raises(ConfigurationError, match="is not trained"):
        fine_tune(run.spec, tmp_path / "again", workspace.cache, NullReporter(), resume=True)
    with pytest.raises(ConfigurationError, match="is not trained"):
        preflight.check(run.spec)
    assert "consists of other runs itself" in str(invoke("ensemble", run.id, ids[0]).fault)


def test_a_soup_averages_updates_and_is_evaluated_explained_and_exported(
    invoke: Callable[..., Any], train: Callable[..., str], tmp_path: Path
) -> None:
    ids = [train("--seed", 0), train("--seed", 1), train("--seed", 2, "--method", "pissa")]
    made = invoke("soup", *ids, ids[0], "--json").json
    workspace = open_workspace(tmp_path / "workspace")
    used = [each["id"] for each in made["used"]]
    store = open_store(workspace, create=False)
    run = store.get(made["id"])
    assert set(run.spec.adapter.members()) == set(ids)
    aurocs = {i: store.get(i).best_auroc for i in ids}
    assert aurocs[used[0]] == max(aurocs.values())
    assert (run.best_auroc or 0) >= (aurocs[used[0]] or 1) - 1e-9
    study = ("--finding", "Plate", "--study", "test-00.png", "--out", tmp_path / "map.png")
    invoke("explain", run.id, *study)
    assert (tmp_path / "map.png").exists()
    assert "macro" in invoke("evaluate", run.id, "--json").json
    assert invoke("export", run.id, "--json").json["difference"] < 1e-4
    assert f"Soup of {store.get(used[0]).name} ({used[0]})" in Path(run.log or "").read_text()


def test_the_soup_keeps_what_helps_and_averages_the_change_of_each_weight(
    invoke: Callable[..., Any],
    train: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    methods = ("lora", "dora", "pissa", "lora")
    ids = [train("--seed", seed, "--method", method) for seed, method in enumerate(methods)]
    best = {i: invoke("show", i, "--json").json["best_auroc"] for i in ids}
    order = sorted(ids, key=lambda i: -best[i])
    top = best[order[0]]
    answers = iter([top - 0.01, top, top + 0.01])
    monkeypatch.setattr("core.training.imported.validation_auroc", lambda *rest: next(answers))
    made = invoke("soup", *ids, "--json").json
    used = [each["id"] for each in made["used"]]
    assert used == [order[0], order[2], order[3]]
    workspace = open_workspace(tmp_path / "workspace")
    states = [merged(workspace.run(i)) for i in used]
    soup = merged(workspace.run(made["id"]))
    assert soup.keys() == states[0].keys()
    for name, value in soup.items():
        mean = torch.stack([state[name] for state in states]).mean(dim=0)
        assert torch.allclose(value, mean, atol=1e-5), name
    spec = load_trained(workspace.run(made["id"])).spec
    plain = build_classifier(spec, 2, adapted=False).model.state_dict()
    assert any(
        "attn.qkv" in name and not torch.allclose(soup[name].float(), value)
        for name, value in plain.items()
    )


def test_what_does_not_fit_is_refused_with_a_sentence(
    invoke: Callable[..., Any], train: Callable[..., str]
) -> None:
    lora = train()
    linear, fewer = train("--method", "linear"), train("--label-fraction", 0.5)
    other = train("--no-pretrained")

    def fault(*words: str) -> str:
        raised = invoke(*words).fault
        assert isinstance(raised, CoreError)
        return str(raised)

    assert "has only one run" in fault("ensemble", lora, lora)
    assert "same data set, split and label fraction" in fault("ensemble", lora, fewer)
    assert "no low-rank adapter" in fault("soup", lora, linear)
    assert "has other backbone weights" in fault("soup", lora, other)
    assert len(json.loads(invoke("runs", "--json").out)) == 4  # nothing was stored
