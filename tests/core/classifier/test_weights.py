"""Weights on disk and their hash."""

from pathlib import Path

import pytest
import torch

from core.classifier import weights
from core.errors import ModelError

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
    state, metadata = weights.read_state(path)
    assert metadata == about
    assert torch.equal(state["b"], STATE["b"].T)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", [b"", b"\xff" * 100])
def test_damaged_weights_raise_an_error(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(damage)
    with pytest.raises(ModelError, match="cannot be read"):
        weights.read_state(path)
    with pytest.raises(ModelError, match="cannot be read"):
        weights.read_state(tmp_path / "none.safetensors")
