"""The files and scores that a run writes at its end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.classifier.trained import load_trained
from core.data.datasets.registry import open_dataset
from core.data.images.reader import read_image
from core.metrics.auroc import macro, per_finding
from core.reporter import NullReporter
from core.training import loop, result
from core.workspace import RESULT
from tests.support.reporters import Notes

Run = Callable[..., tuple[Path, dict[str, Any]]]


def test_a_long_enough_run_notes_how_fast_the_machine_is(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    loop.fine_tune(tiny(train__epochs=1), tmp_path / "short", cache, NullReporter())
    assert not (cache / "speed.json").exists()
    monkeypatch.setattr(result, "MIN_MEASURED_SECONDS", 0.0)
    loop.fine_tune(tiny(train__epochs=1), tmp_path / "long", cache, NullReporter())
    assert all(value > 0 for value in json.loads((cache / "speed.json").read_text()).values())


@pytest.mark.parametrize("method", ["full", "linear", "lora"])
def test_a_run_writes_what_its_scores_come_from(run: Run, method: str) -> None:
    notes = Notes()
    folder, result = run(report=notes, adapter__method=method)
    assert json.loads((folder / RESULT).read_text()) == result
    assert result["findings"] == ["Pneumonia", "Plate"]
    assert result["positives"] == {"Pneumonia": 20, "Plate": 20}
    assert notes.parameters == (result["trainable"], result["total"])
    assert notes.fractions == sorted(notes.fractions)
    assert notes.fractions[-1] == 1
    names = {name for name, *_ in notes.metrics}
    assert names == {
        "train/loss", "train/lr", "train/images_per_s", "val/loss", "val/auroc",
        "val/auroc/Pneumonia", "val/auroc/Plate",
    }  # fmt: skip

    trained = load_trained(folder)
    dataset = open_dataset("folder", trained.spec.data.root)
    for split, count in (("val", 12), ("test", 16)):
        with np.load(folder / "predictions" / f"{split}.npz") as file:
            saved = dict(file)
        assert list(saved["ids"]) == dataset.ids(split)
        assert np.array_equal(saved["labels"], dataset.labels(dataset.ids(split)), equal_nan=True)
        each = per_finding(saved["labels"], saved["scores"])
        scores = result["scores"][split]
        assert scores["studies"] == count
        assert list(scores["per_finding"].values()) == each.tolist()
        assert scores["auroc"] == macro(each)
        again = [read_image(dataset.path(one), trained.side) for one in dataset.ids(split)]
        np.testing.assert_allclose(trained.probabilities(again), saved["scores"], atol=2e-3)  # bf16
    assert result["best_auroc"] == pytest.approx(result["scores"]["val"]["auroc"])


def test_an_undecided_test_split_has_no_auroc(run: Run, altered) -> None:
    folder, result = run(data__root=altered(("test",)), train__epochs=1)
    assert result["scores"]["test"]["auroc"] is None
    assert json.loads((folder / RESULT).read_text()) == result


def test_without_a_readable_test_picture_there_is_no_test_auroc(run: Run, altered) -> None:
    root = altered()
    for one in root.glob("test-*.png"):
        one.write_bytes(b"")
    _, result = run(data__root=root, data__skip_bad=True, adapter__method="linear")
    assert list(result["scores"]) == ["val"]
    assert len(result["skipped"]) == 16
