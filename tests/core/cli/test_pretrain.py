"""``python -m core pretrain`` on a few phantoms and a folder of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from core.cli.app import app
from core.data.phantoms.dataset import Phantom
from core.errors import CoreError
from core.pretraining import collect_images

QUICK = ["--steps", "3", "--batch-size", "4", "--images", "0"]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Radiographs in class folders, two of each patient, with a description."""
    root = tmp_path_factory.mktemp("own")
    phantoms = Phantom("phantom-1", seed=2, train=40, val=1, test=1, size=64)
    for i, one in enumerate(phantoms.ids("train")):
        ill = bool(phantoms.study(one).findings["Pneumonia"])
        path = root / ("pneumonia" if ill else "normal") / f"p{i // 2}-{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(phantoms.read(one)).save(path)
    description = {"title": "Mine", "licence": "CC0", "patient": r"p\d+"}
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def call(workspace: Path, *words: object) -> Result:
    line = ["pretrain", *map(str, words), "--workspace", str(workspace), "--json"]
    return CliRunner().invoke(app, line)


@pytest.fixture(autouse=True)
def few_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use fewer studies, because the probe takes most of the time."""
    monkeypatch.setattr(collect_images, "PROBE_STUDIES", 24)


@pytest.mark.slow
def test_a_folder_of_images_gives_weights_and_a_card(own: Path, tmp_path: Path) -> None:
    first = call(tmp_path, *QUICK, "--data", "folder", "--root", own, "--out", tmp_path / "first")
    assert first.exit_code == 0, first.output
    card: dict[str, Any] = json.loads(first.stdout.strip().splitlines()[-1])
    (record,) = card["sets"]
    assert (record["title"], record["licence"]) == ("Mine", "CC0")
    assert record["pictures"] + record["left_out"] == 28  # seven tenths of 20 patients
    assert card["images"] == record["pictures"]
    assert set(card["probe_auroc"][-1]) == {"step", "phantom-14", "Mine"}
    assert "--data folder --root DIR" in card["command"]
    assert str(own) not in json.dumps(card)
    before = load_file(tmp_path / "first" / "encoder.safetensors")

    again = call(
        tmp_path, *QUICK, "--data", "folder", "--root", own, "--lr", "1e-6",
        "--start", tmp_path / "first" / "encoder.safetensors", "--out", tmp_path / "second",
    )  # fmt: skip
    assert again.exit_code == 0, again.output
    after = load_file(tmp_path / "second" / "encoder.safetensors")
    assert all(np.allclose(before[key], after[key], atol=2e-3) for key in before)
    assert json.loads((tmp_path / "second" / "card.json").read_text())["start"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nih"], "1 data sets (--data) and 0 folders"),
        (
            ["--data", "folder", "--root", ".", "--patient", "a", "--patient", "b"],
            "2 patient patterns",
        ),
        (["--data", "nhi", "--root", "."], "Did you mean nih?"),
        (["--start", "nowhere.safetensors"], "nowhere.safetensors does not exist"),
        (["--precision", "fp8"], "precision must be auto, fp32 or bf16"),
        (["--device", "tpu"], "device must be auto, cpu or cuda"),
        ([], "needs images"),
    ],
)
def test_invalid_requests_are_rejected(words: list[str], message: str, tmp_path: Path) -> None:
    answer = call(tmp_path, *QUICK, "--out", tmp_path / "out", *words)
    assert isinstance(answer.exception, CoreError)
    assert message in str(answer.exception)
