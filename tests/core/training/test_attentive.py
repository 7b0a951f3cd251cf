"""Runs with an attentive head: cached tokens, unknown labels, exact resume, attention as map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from core.classifier.trained import load_trained
from core.data.datasets.registry import open_data
from core.errors import ModelError, Stopped
from core.models.tuning import frozen_prefix
from core.saliency.explain import explain, explain_study
from core.saliency.methods.registry import offered
from tests.support.reporters import Notes

PROBE = {"adapter__method": "attentive", "train__precision": "fp32", "train__lr": 0.05}
BACKBONES = ("timm:test_vit", "timm:test_resnet", "timm:test_convnext")


@pytest.mark.parametrize("backbone", BACKBONES)
def test_tokens_are_computed_once_and_give_the_same_run(
    run, monkeypatch: pytest.MonkeyPatch, backbone: str
) -> None:
    notes = Notes()
    _, cached = run("cached", report=notes, **PROBE, model__backbone=backbone)
    assert any("Computes the tokens of 52 images, once." in line for line in notes.lines)
    monkeypatch.setattr(frozen_prefix, "cut", lambda *_: None)
    whole = Notes()
    _, computed = run("whole", report=whole, **PROBE, model__backbone=backbone)
    assert not any("tokens" in line for line in whole.lines)
    assert cached["scores"]["test"]["auroc"] == pytest.approx(
        computed["scores"]["test"]["auroc"], abs=1e-3
    )
    losses = [[v for n, v, *_ in one.metrics if n == "train/loss"] for one in (notes, whole)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_it_learns_what_lies_in_a_corner(run) -> None:
    _, result = run(**PROBE, train__epochs=15)
    assert result["scores"]["test"]["per_finding"]["Plate"] > 0.9


@pytest.mark.parametrize("settings", [PROBE, {"adapter__head": "attentive", "adapter__rank": 2}])
def test_a_stopped_run_continues_exactly(run, settings: dict[str, object]) -> None:
    _, whole = run("whole", **settings)
    with pytest.raises(Stopped):
        run("halted", report=Notes(stop=9), **settings)
    _, again = run("halted", resume=True, **settings)
    assert again["weights_sha256"] == whole["weights_sha256"]
    assert again["scores"] == whole["scores"]


def test_unknown_labels_are_ignored(run, altered) -> None:
    # Without any known label of the second finding, its query does not move.
    root = altered(("train",), "")
    table = (root / "labels.csv").read_text().splitlines()
    original = [line.rsplit(",", 2) for line in table]
    rows = [",".join((a, str(i % 2) if b == "" else b, c)) for i, (a, b, c) in enumerate(original)]
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    folder, result = run(**PROBE, data__root=root, train__weight_decay=0.0)
    head = load_trained(folder).model.get_classifier()  # type: ignore[operator]
    assert head.queries[0].any()
    assert not head.queries[1].any()
    assert result["scores"]["test"]["auroc"] is not None


def test_the_attention_of_the_head_is_a_map(run) -> None:
    folder, _ = run(**PROBE, train__epochs=15)
    trained = load_trained(folder)
    assert "attention-pooling" in offered(trained.spec.adapter)
    dataset = open_data(trained.spec.data)
    image = dataset.read("test-02.png")
    pixels = trained.transform([image])
    attention = explain(trained.model, pixels, 1, method="attention-pooling")
    assert attention.shape == (1, *pixels.shape[-2:])
    explanation = explain_study(trained, image, "Plate", "attention-pooling")
    tokens = trained.model.forward_features(pixels)  # type: ignore[operator]
    rows, columns = explanation.grid
    patches = rows * columns
    head = trained.model.get_classifier()  # type: ignore[operator]
    shares = head.attention(tokens[:, -patches:])[0, 1].detach()
    assert float(shares.sum()) == pytest.approx(1, abs=1e-5)
    assert not np.allclose(attention, explain(trained.model, pixels, 0, method="attention-pooling"))
    for method in ("attention-rollout", "attention-relevance", "grad-cam"):
        assert np.isfinite(explain(trained.model, pixels, 1, method=method)).all()


def test_a_run_with_another_head_has_no_such_map(run, tmp_path: Path) -> None:
    folder, _ = run(adapter__method="linear")
    trained = load_trained(folder)
    assert "attention-pooling" not in offered(trained.spec.adapter)
    pixels = torch.zeros(1, 3, 64, 64)
    with pytest.raises(ModelError, match="needs an attentive head") as caught:
        explain(trained.model, pixels, 0, method="attention-pooling")
    assert "--head attentive" in caught.value.remedy
