"""Training: what a run learns, writes, and does when it is stopped or something is wrong."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core import stats, train
from core.data.catalogue import open_dataset
from core.data.images import read_image
from core.reporting import Silence
from core.spec import RunSpec
from core.trained import RESULT, load_trained

Run = Callable[..., tuple[Path, dict[str, Any]]]


class Notes(Silence):
    """A reporter that keeps what it is told, and asks to stop at the ``stop``-th question."""

    def __init__(self, stop: int | None = None) -> None:
        self.metrics: list[tuple[str, float, float, int]] = []
        self.phases: list[str] = []
        self.fractions: list[float] = []
        self.lines: list[str] = []
        self.asked, self.stop = 0, stop

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        self.metrics.append((name, value, epoch, step))

    def progress(self, fraction: float, seconds_left: float | None, phase: str) -> None:
        self.fractions.append(fraction)
        self.phases.append(phase)

    def stop_requested(self) -> bool:
        self.asked += 1
        return self.stop is not None and self.asked >= self.stop

    def log(self, text: str) -> None:
        self.lines.append(text)

    def rewind(self, kept: int) -> None:
        del self.metrics[kept:]

    def curves(self) -> list[tuple[str, float, float, int]]:
        """What does not depend on the machine's speed."""
        return [one for one in self.metrics if one[0] != "train/images_per_s"]


@pytest.fixture
def run(tmp_path: Path, tiny) -> Run:
    """Carry out a tiny run in a folder of its own."""

    def carry_out(
        name: str = "run",
        report: Silence | None = None,
        resume: bool = False,
        spec: RunSpec | None = None,
        **changes: Any,
    ) -> tuple[Path, dict[str, Any]]:
        folder = tmp_path / name
        chosen = spec or tiny(**changes)
        return folder, train.run(
            chosen, folder, tmp_path / "cache", report or Silence(), resume=resume
        )

    return carry_out


def rate(epoch: float, **changes: float) -> float:
    settings: dict[str, Any] = {"lr": 1.0, "min_lr": 0.1, "warmup_epochs": 2, "epochs": 12}
    return train.learning_rate(epoch, **settings | changes)


def test_the_rate_rises_in_a_line_and_falls_as_half_a_cosine() -> None:
    assert [rate(0), rate(0.5), rate(1), rate(2)] == pytest.approx([0, 0.25, 0.5, 1])
    assert rate(7) == pytest.approx(0.55)
    assert rate(12) == pytest.approx(0.1)
    assert rate(0, warmup_epochs=0) == 1
    falling = [rate(2 + i / 10) for i in range(101)]
    assert all(a > b for a, b in itertools.pairwise(falling))


def test_the_loss_counts_only_labels_that_are_known() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]], requires_grad=True)
    nan = float("nan")
    loss = train.masked_loss(logits, torch.tensor([[1.0, nan], [nan, 0.0]]))
    expected = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(3.0))) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[0, 1] == gradient[1, 0] == 0
    assert gradient[0, 0] < 0 < gradient[1, 1]
    assert train.masked_loss(logits, torch.full((2, 2), nan)).item() == 0


@pytest.mark.parametrize("method", ["full", "linear", "lora"])
def test_a_run_writes_what_its_scores_come_from(run: Run, method: str) -> None:
    notes = Notes()
    folder, result = run(report=notes, adapter__method=method)
    assert json.loads((folder / RESULT).read_text()) == result
    assert result["findings"] == ["Pneumonia", "Plate"]
    assert result["positives"] == {"Pneumonia": 20, "Plate": 20}
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
        each = stats.per_finding(saved["labels"], saved["scores"])
        said = result["scores"][split]
        assert said["studies"] == count
        assert list(said["per_finding"].values()) == each.tolist()
        assert said["auroc"] == stats.macro(each)
        again = [read_image(dataset.path(one), trained.side) for one in dataset.ids(split)]
        np.testing.assert_allclose(trained.probabilities(again), saved["scores"], atol=1e-6)
    assert result["best_auroc"] == pytest.approx(result["scores"]["val"]["auroc"])
