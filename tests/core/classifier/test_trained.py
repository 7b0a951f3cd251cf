"""Weights on disk, and the model they make again."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core import files
from core.classifier import build, trained, weights
from core.data.transforms import crop_geometry
from core.errors import DataError, ModelError
from core.models.backbones.build import network
from core.models.backbones.registry import backbone_card
from core.reporter import NullReporter
from core.training.loop import fine_tune

STATE = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(3)}


def test_the_digest_is_of_names_shapes_types_and_values() -> None:
    own = weights.digest(STATE)
    assert weights.digest(dict(reversed(STATE.items()))) == own
    others = [
        {"b": STATE["b"], "c": STATE["a"]},
        {"b": STATE["b"].reshape(3, 2), "a": STATE["a"]},
        {"b": STATE["b"].to(torch.float64), "a": STATE["a"]},
        {"b": STATE["b"] + 1e-6, "a": STATE["a"]},
        {"b": STATE["b"]},
    ]
    assert len({own, *map(weights.digest, others)}) == 6
    assert weights.digest({"b": STATE["b"].T.contiguous().T, "a": STATE["a"]}) == own
    assert len(weights.digest({"half": torch.ones(2, dtype=torch.bfloat16)})) == 64


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    about = {"findings": '["Effusion"]', "epoch": "3"}
    weights.write_state(path, STATE | {"b": STATE["b"].T}, about)
    state, said = weights.read_state(path)
    assert said == about
    assert torch.equal(state["b"], STATE["b"].T)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", [b"", b"\xff" * 100])
def test_damaged_weights_are_said(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(damage)
    with pytest.raises(ModelError, match="cannot be read"):
        weights.read_state(path)
    with pytest.raises(ModelError, match="cannot be read"):
        weights.read_state(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    "content",
    [b"new", lambda file: torch.save({"new": torch.ones(100_000)}, file)],
    ids=["bytes", "torch"],
)
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    partial = tmp_path / f".file.{os.getpid()}.part"
    partial.symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"file cannot be written \(No space left") as caught:
        files.write_atomically(path, content)
    assert "resume" in caught.value.remedy
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    files.write_atomically(path, content)
    assert path.read_bytes() != b"old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="No such file"):
        files.write_atomically(tmp_path / "no folder" / "file", content)


def test_the_centre_crop_keeps_its_share_at_any_input_size() -> None:
    card = backbone_card("cxr-mae")
    seen = []
    for size in (112, 224, 448):
        transform = build.evaluation_transform(card, size)
        geometry = crop_geometry(1024, 1024, size, transform.resize)
        seen.append(size / geometry.scale)
    assert seen == pytest.approx([1024 * 224 / 256] * 3)
    assert build.evaluation_transform(backbone_card("mrm"), 128).resize == 128


def test_a_run_without_weights_or_result_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights yet"):
        trained.load_trained(tmp_path)
    with pytest.raises(DataError, match="no result yet"):
        trained.read_result(tmp_path)


@pytest.mark.parametrize("method", ["linear", "full"])
def test_frozen_weights_have_to_be_those_of_the_run(tiny, tmp_path: Path, method: str) -> None:
    weights = tmp_path / "own.pth"
    state = network(backbone_card("timm:test_vit"), 2, 64).state_dict()
    torch.save(state, weights)
    folder = tmp_path / "run"
    spec = tiny(
        model__pretrained=True, model__weights=weights, adapter__method=method, train__epochs=1
    )
    result = fine_tune(spec, folder, tmp_path / "cache", NullReporter())
    assert trained.read_result(folder) == result
    found = trained.load_trained(folder)
    assert found.spec == spec.resolved()
    assert not found.model.training
    assert found.finding("Plate") == 1
    with pytest.raises(DataError, match="Its findings are: Pneumonia, Plate"):
        found.finding("Hernia")
    picture = np.random.default_rng(0).integers(0, 256, (90, 70), np.uint8)
    before = found.probabilities([picture, picture.T.copy()])
    assert before.shape == (2, 2)
    assert ((before > 0) & (before < 1)).all()

    name = "blocks.0.norm1.weight"
    torch.save(state | {name: state[name] * 2}, weights)
    if method == "full":
        assert np.array_equal(trained.load_trained(folder).probabilities([picture]), before[:1])
        return
    with pytest.raises(ModelError, match="have changed since"):
        trained.load_trained(folder)
