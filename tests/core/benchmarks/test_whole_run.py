"""The sides of the whole run do the same work, and the rows say which is better."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torch import Tensor

from core.benchmarks import (
    auroc_parity,
    conventional_loop,
    hf_trainer,
    joint_training,
    measurement,
    png_folder,
    whole_run,
)
from core.benchmarks.measurement import Row, median, peak_bytes
from core.benchmarks.png_folder import Shape
from core.benchmarks.registry import BENCHMARKS, chosen
from core.data.datasets.registry import open_data
from core.errors import ConfigurationError

SHAPE = Shape(train=8, val=16, epochs=2, side=160, size=128, batch=4, workers=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PNG files and their table."""
    root = tmp_path_factory.mktemp("shape") / "png"
    png_folder.write(root, SHAPE)
    return root


def test_the_folder_has_the_shape(folder: Path) -> None:
    with Image.open(next((folder / "images").iterdir())) as file:
        assert (file.size, file.mode) == ((160, 160), "L")
    counts = pd.read_csv(folder / "labels.csv")["split"].value_counts().to_dict()
    assert counts == {"train": 8, "val": 16, "test": 16}
    opened = open_data(whole_run.specification(folder, SHAPE).data)
    files, labels, findings = png_folder.read(folder, "val")
    assert opened.findings == findings
    ids = [str(one.relative_to(folder)) for one in files]
    assert (opened.labels(ids) == labels).all()


@pytest.mark.slow
@pytest.mark.parametrize("side", [whole_run.train, conventional_loop.train, hf_trainer.train])
def test_a_side_trains_and_validates_all_epochs(folder: Path, side: Callable[..., Any]) -> None:
    found = side(folder, SHAPE)
    assert 0 < found["auroc"] <= 1
    assert len(found["epochs"]) == SHAPE.epochs - (side is whole_run.train)
    assert 0 < sum(found["epochs"]) < found["seconds"]
    assert found["peak_bytes"] > 1e8
    if side is whole_run.train:
        assert 0 < found["cache_seconds"] < found["seconds"]


@pytest.mark.slow
def test_a_seed_decides_the_new_weights() -> None:
    def adapter(seed: int) -> Tensor:
        state = conventional_loop.model(replace(SHAPE, seed=seed), 3).state_dict()
        return next(value for name, value in state.items() if "lora_A" in name)

    assert adapter(0).equal(adapter(0))
    assert not adapter(0).equal(adapter(1))
    assert whole_run.specification(Path("png"), replace(SHAPE, seed=1)).train.seed == 1


def test_parity_tells_each_seed_and_the_interval_between() -> None:
    row = auroc_parity._row("auroc/loop", [0.70, 0.72, 0.71], [0.69, 0.70, 0.71])
    assert row.ours == pytest.approx(0.71)
    assert row.ratio == pytest.approx(0.71 / 0.70)
    low, high = row.more["difference_spread"]
    assert low + high == pytest.approx(0.02)
    assert high - low == pytest.approx(2 * 4.302653 * 0.01 / 3**0.5, rel=1e-5)
    json.dumps(row.as_json(), allow_nan=False)


def test_a_ratio_above_one_is_always_ours_to_have() -> None:
    assert Row("a", 2.0, 6.0, "s", "cpu").ratio == 3
    row = Row("b", 6.0, 2.0, "images/s", "cpu", "higher", {"spread": (5.0, 7.0)})
    assert row.ratio == 3
    assert {"name", "ours", "baseline", "ratio", "unit", "device"} <= set(row.as_json())
    json.dumps(row.as_json(), allow_nan=False)


def test_standard_output_is_for_the_answer(capfd: pytest.CaptureFixture[str]) -> None:
    assert measurement.in_new_process(print, "chatter") is None
    out, err = capfd.readouterr()
    assert "chatter" in err
    assert not out


@pytest.mark.slow
@pytest.mark.parametrize("together", [True, False])
def test_all_ranks_are_trained_to_their_end(tmp_path: Path, together: bool) -> None:
    shape = joint_training.Sweep("embedded-mae", 64, train=16, held=12, epochs=1, repeats=1)
    assert len(joint_training.seconds(tmp_path, shape, together)) == 1
    for rank in joint_training.RANKS:
        assert json.loads((tmp_path / f"1-{rank}" / "result.json").read_text())["best_epoch"] == 1


def test_an_unknown_benchmark_is_answered_with_the_known() -> None:
    assert list(chosen(None)) == list(BENCHMARKS)
    assert list(chosen("together")) == ["together"]
    with pytest.raises(ConfigurationError, match="steps"):
        chosen("steps")


def test_the_peak_counts_what_was_given_back() -> None:
    held = np.ones(100_000_000, np.uint8)
    least = peak_bytes()
    assert least > held.nbytes
    del held
    assert peak_bytes() >= least
    assert median([3.0, 1.0, 2.0]) == (2.0, (1.0, 3.0))
