"""Runs of the methods without epochs, on small phantoms, from the images to saved predictions."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from core.classifier.trained import Trained, load_trained, read_result
from core.data import subsets
from core.data.base import ChestDataset
from core.data.datasets.registry import open_data
from core.errors import ConfigurationError, DataError, ModelError, Stopped
from core.hardware.distributed import Processes
from core.models.tuning.nearest_neighbours import NearestNeighboursHead
from core.models.tuning.pixel_ridge import PixelRidge
from core.saliency import out_of_distribution
from core.saliency.explain import explain_study
from core.training import setup
from core.training.closed_form.logistic import INVERSE_PENALTIES
from core.training.closed_form.ridge import PENALTIES
from core.training.loop import fine_tune
from tests.support.reporters import Notes

METHODS = ("logistic", "knn", "pixels")


def saved(folder: Path, split: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    with np.load(folder / "predictions" / f"{split}.npz") as file:
        return file["labels"], file["scores"]


def chosen(notes: Notes) -> float:
    """The penalty that the log names."""
    line = next(line for line in notes.lines if line.startswith("Chosen on validation"))
    return float(line.split("settings: ")[1].split(" (")[0].split()[-1])


def inputs_of(trained: Trained, dataset: ChestDataset, ids: list[str]) -> NDArray[np.float64]:
    """Inputs of the head for these studies."""
    recorded: list[torch.Tensor] = []
    head = trained.model.get_classifier()  # type: ignore[operator]
    hook = head.register_forward_pre_hook(lambda _, inputs: recorded.append(inputs[0]))
    trained.probabilities([dataset.read(study, trained.side) for study in ids])
    hook.remove()
    return torch.cat(recorded).double().numpy()


@pytest.mark.parametrize("method", METHODS)
def test_a_run_without_epochs(run, method: str) -> None:
    notes = Notes()
    # Settings of the optimizer have no effect.
    settings = {"train__epochs": 7, "train__lr": 0.5, "train__precision": "fp32"}
    folder, result = run(report=notes, adapter__method=method, **settings)
    assert result["steps"] == 0
    assert result["best_epoch"] == 1
    assert result["scores"]["test"]["per_finding"]["Plate"] > (0.6 if method == "knn" else 0.9)
    assert [m[0] for m in notes.metrics] == [
        "val/loss", "val/auroc/Pneumonia", "val/auroc/Plate", "val/auroc",
    ]  # fmt: skip
    assert not any(name.startswith("train/") for name, *_ in notes.metrics)
    assert notes.fractions == sorted(notes.fractions)
    trained = load_trained(folder)
    assert trained.spec.train.epochs == 1
    dataset = open_data(trained.spec.data)
    images = [dataset.read(study, trained.side) for study in dataset.ids("test")]
    assert np.abs(trained.probabilities(images) - saved(folder, "test")[1]).max() < 1e-5
    assert read_result(folder)["scores"]["val"]["auroc"] == pytest.approx(
        next(value for name, value, *_ in notes.metrics if name == "val/auroc"), abs=1e-6
    )


def test_logistic_equals_scikit_learn_on_the_same_features(run) -> None:
    notes = Notes()
    folder, _ = run(report=notes, adapter__method="logistic", train__precision="fp32")
    trained = load_trained(folder)
    dataset = open_data(trained.spec.data)
    ids = subsets.labelled(dataset, trained.spec.data)
    train, test = (inputs_of(trained, dataset, part) for part in (ids, dataset.ids("test")))
    scaler, labels = StandardScaler().fit(train), dataset.labels(ids)
    c = chosen(notes)
    assert c in INVERSE_PENALTIES
    for finding in range(2):
        known = ~np.isnan(labels[:, finding])
        judge = LogisticRegression(C=c, tol=1e-10, max_iter=10_000)
        judge.fit(scaler.transform(train[known]), labels[known, finding])
        theirs = judge.predict_proba(scaler.transform(test))[:, 1]
        assert np.abs(theirs - saved(folder, "test")[1][:, finding]).max() < 1e-5


def test_pixels_equal_the_ridge_of_scikit_learn(run) -> None:
    notes = Notes()
    folder, _ = run(report=notes, adapter__method="pixels")
    trained = load_trained(folder)
    assert isinstance(trained.model, PixelRidge)
    dataset = open_data(trained.spec.data)
    ids = subsets.labelled(dataset, trained.spec.data)
    train, test = (inputs_of(trained, dataset, part) for part in (ids, dataset.ids("test")))
    labels, penalty = dataset.labels(ids), chosen(notes)
    assert penalty in PENALTIES
    with torch.no_grad():
        ours = trained.model.head(torch.from_numpy(test).float()).numpy()
    for finding in range(2):
        known = ~np.isnan(labels[:, finding])
        theirs = Ridge(penalty).fit(train[known], labels[known, finding]).predict(test)
        assert np.abs(ours[:, finding] - theirs).max() < 1e-4
        order = np.argsort(theirs)
        assert (np.diff(saved(folder, "test")[1][order, finding]) > -1e-6).all()


def test_pixels_use_no_backbone(run, tiny) -> None:
    notes = Notes()
    folder, result = run(report=notes, adapter__method="pixels")
    other, again = run("other", adapter__method="pixels", model__backbone="timm:test_resnet",
                       model__input_size=32)  # fmt: skip
    assert again["weights_sha256"] == result["weights_sha256"]
    assert result["backbone_sha256"] is None
    assert result["trainable"] == result["total"]
    assert np.array_equal(saved(folder, "test")[1], saved(other, "test")[1])
    assert any("no backbone and no weights are used" in line for line in notes.lines)
    first = tiny(adapter__method="pixels")
    second = tiny(adapter__method="pixels", model__pretrained=True, model__backbone="mrm",
                  train__epochs=9)  # fmt: skip
    assert first.fingerprint() == second.fingerprint()
    assert second.title().startswith("Pixels · folder")


def test_unknown_labels_have_no_effect_on_knn(run) -> None:
    folder, _ = run(adapter__method="knn")
    trained = load_trained(folder)
    head = trained.model.get_classifier()  # type: ignore[operator]
    assert isinstance(head, NearestNeighboursHead)
    assert head.bank.shape == (40, trained.model.num_features)
    assert int(head.labels.isnan().sum()) == 1
    torch.testing.assert_close(head.bank.norm(dim=1), torch.ones(40))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop", [1, 3, 8])
def test_a_stopped_run_gives_the_same_result(run, method: str, stop: int) -> None:
    _, whole = run("whole", adapter__method=method)
    stopped, notes = Notes(stop=stop), Notes()
    try:
        run("halted", report=stopped, adapter__method=method)
    except Stopped:
        _, again = run("halted", report=notes, resume=True, adapter__method=method)
        assert again["weights_sha256"] == whole["weights_sha256"]
        assert again["scores"] == whole["scores"]
    else:
        assert stopped.asked < stop  # this method asks less often


@pytest.mark.parametrize("method", METHODS)
def test_validation_without_positives_is_refused(run, altered, method: str) -> None:
    with pytest.raises(DataError, match="no finding has both positive and negative studies in the"):
        run(adapter__method=method, data__root=altered(("val",), "0"))


@pytest.mark.parametrize("method", METHODS)
def test_training_studies_of_one_class_are_refused(run, altered, method: str) -> None:
    with pytest.raises(DataError, match="both positive and negative studies among the 40") as error:
        run(adapter__method=method, data__root=altered(("train",), "1"))
    assert error.value.field == "data.label_fraction"


def test_several_processes_are_refused(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = setup._accelerator

    def two(spec: Any) -> Any:
        accelerator, processes = joined(spec)
        return accelerator, dataclasses.replace(processes, count=2)

    assert {"count"} <= {field.name for field in dataclasses.fields(Processes)}
    monkeypatch.setattr(setup, "_accelerator", two)
    with pytest.raises(ConfigurationError, match="fitted in one process"):
        fine_tune(tiny(adapter__method="knn"), tmp_path / "run", tmp_path / "cache", Notes())


def test_the_label_control_fits_shuffled_labels(run) -> None:
    _, plain = run("plain", adapter__method="logistic")
    _, control = run("control", adapter__method="logistic", data__shuffle_labels=True)
    assert control["weights_sha256"] != plain["weights_sha256"]


def test_pixels_have_no_layer_but_maps_of_the_input(run) -> None:
    folder, _ = run(adapter__method="pixels")
    trained = load_trained(folder)
    dataset = open_data(trained.spec.data)
    image = dataset.read("test-02.png", trained.side)
    with pytest.raises(ModelError, match="No layer of PixelRidge forms a grid"):
        explain_study(trained, image, "Plate", "grad-cam")
    with pytest.raises(ModelError, match="No layer of PixelRidge forms a grid"):
        out_of_distribution.features(trained, [image])
    # The bright plate is in the top left corner.
    shown = explain_study(trained, image, "Plate", "integrated-gradients").map
    assert shown[: len(shown) // 2, : len(shown) // 2].sum() > 0.5 * shown.sum()
