"""Checkpoints are read without running code, and the report covers every key."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from core.errors import ModelError
from core.models.backbones import checkpoints

RAN = "ran-the-code"


class Hostile:
    """An object that would create a folder when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (RAN,)


def vit(size: int = 32, depth: int = 2, width: int = 48) -> Any:
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224",
        img_size=size,
        embed_dim=width,
        depth=depth,
        num_heads=3,
        num_classes=5,
        global_pool="avg",
    )


def encoder(**shape: int) -> dict[str, Tensor]:
    return {
        key: torch.randn_like(value)
        for key, value in vit(**shape).state_dict().items()
        if not key.startswith(("head", "fc_norm"))
    }


def fill(state: dict[str, Tensor], **shape: int) -> tuple[Any, checkpoints.LoadReport]:
    model = vit(**shape)
    return model, checkpoints.load(model, state, name="file.pth", digest="0" * 64)


@pytest.mark.parametrize("inner", [None, "model", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_torch_files_with_the_usual_wrappers(
    tmp_path: Path, inner: str | None, prefix: str
) -> None:
    state = {prefix + key: value for key, value in encoder().items()}
    torch.save(state if inner is None else {inner: state, "epoch": 7}, tmp_path / "a.pth")
    read = checkpoints.read(tmp_path / "a.pth")
    assert all(torch.equal(read[key], value) for key, value in _plain(state, prefix).items())
    assert len(read) == len(state)


def test_safetensors_under_any_name(tmp_path: Path) -> None:
    state = encoder()
    save_file(state, tmp_path / "weights.bin")
    read = checkpoints.read(tmp_path / "weights.bin")
    assert read.keys() == state.keys()
    assert len(checkpoints.sha256(tmp_path / "weights.bin")) == 64


def test_harmless_objects_of_published_training_code_are_read(tmp_path: Path) -> None:
    saved = {
        "model": encoder(),
        "args": argparse.Namespace(lr=0.1, name="mae"),
        "best": np.float64(0.8),
        "epoch": 3,
    }
    torch.save(saved, tmp_path / "a.pth")
    assert checkpoints.read(tmp_path / "a.pth").keys() == encoder().keys()


def test_scores_of_an_older_numpy_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model": {"w": torch.ones(2)}, "best": np.float64(0.8)}, path)
    older = tmp_path / "older.pth"
    new, old = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(older, "w") as target:
        for info in source.infolist():
            content = source.read(info)
            assert info.filename != "a/data.pkl" or new in content
            target.writestr(info, content.replace(new, old))
    assert checkpoints.read(older).keys() == {"w"}


@pytest.mark.parametrize(
    "content",
    [
        {"student": {"w": torch.zeros(2)}, "teacher": {"w": torch.ones(2)}},
        {"state_dict": {"w": torch.zeros(2)}, "teacher": {"module.w": torch.ones(2)}},
        {"model": {"w": torch.zeros(2)}, "model_ema": {"w": torch.ones(2)}},
        {"module": {"w": torch.ones(2)}, "lr": 0.1},
        {"model": {"state_dict": {"w": torch.ones(2)}}},
    ],
)
def test_averaged_weights_are_preferred(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "a.pth")
    assert torch.equal(checkpoints.read(tmp_path / "a.pth")["w"], torch.ones(2))


def test_a_pickled_model_is_rejected(tmp_path: Path) -> None:
    torch.save(vit(), tmp_path / "a.pth")
    with pytest.raises(ModelError, match="would run code") as caught:
        checkpoints.read(tmp_path / "a.pth")
    assert "save its state dict as safetensors" in caught.value.remedy


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_runs_code_is_rejected_and_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"model": encoder(), "extra": Hostile()}
    if legacy:
        (tmp_path / "a.pth").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ModelError, match="would run code") as caught:
        checkpoints.read(tmp_path / "a.pth")
    assert "safetensors" in caught.value.remedy
    assert not (tmp_path / RAN).exists()


@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_a_truncated_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    torch.save(encoder(), path) if kind == "torch" else save_file(encoder(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelError, match="truncated or not a checkpoint"):
        checkpoints.read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"not weights at all", "truncated or not a checkpoint")],
)
def test_files_that_are_not_checkpoints(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        checkpoints.read(tmp_path / "a")
    assert caught.value.field == "model.weights"


def test_a_missing_file_and_a_file_without_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.pth does not exist"):
        checkpoints.read(tmp_path / "nowhere.pth")
    torch.save({"epoch": 3, "note": "none"}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"contains no weights \(its keys: epoch, note\)"):
        checkpoints.read(tmp_path / "a.pth")
    torch.save([1, 2], tmp_path / "b.pth")
    with pytest.raises(ModelError, match="contains a list"):
        checkpoints.read(tmp_path / "b.pth")


def test_the_report_accounts_for_every_key() -> None:
    state = encoder(size=64) | {
        "decoder_embed.weight": torch.zeros(2),
        "mask_token": torch.zeros(1),
        "norm.weight": torch.zeros(48),
        "bert_mlp.weight": torch.zeros(2),
        "head.weight": torch.zeros(9, 48),
    }
    model, report = fill(state, size=32)
    assert set(report.missing) == {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"}
    assert set(report.unexpected) == state.keys() - encoder().keys()
    assert report.reshaped == ("pos_embed",)
    assert set(report.matched) | {"pos_embed"} == encoder().keys()
    assert torch.equal(model.blocks[1].mlp.fc2.weight, state["blocks.1.mlp.fc2.weight"])
    assert "not used (decoder_embed, mask_token, norm, bert_mlp, head)" in str(report)


def test_the_classifier_is_not_loaded() -> None:
    state = encoder() | {"head.weight": torch.ones(5, 48), "head.bias": torch.ones(5)}
    model, _ = fill(state)
    assert torch.equal(model.head.weight, vit().head.weight)


@pytest.mark.parametrize(
    "missing", ["pos_embed", "blocks.1.attn.qkv.bias", "patch_embed.proj.weight"]
)
def test_a_missing_encoder_key_is_an_error(missing: str) -> None:
    state = encoder()
    del state[missing]
    with pytest.raises(
        ModelError, match=f"lacks 1 of the encoder's tensors. The first is {missing}"
    ):
        fill(state)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"depth": 3}, "has 12 tensors that the backbone does not have"),
        ({"depth": 1}, "lacks 12 of the encoder's tensors"),
        ({"width": 96}, r"has shape \[1, 1, 96\], the backbone needs \[1, 1, 48\]"),
    ],
)
def test_a_checkpoint_of_another_size(shape: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        fill(encoder(**shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value: float) -> None:
    state = encoder()
    state["blocks.0.mlp.fc1.weight"][3, 2] = value
    with pytest.raises(ModelError, match=r"not finite in blocks\.0\.mlp\.fc1\.weight"):
        fill(state)


def test_positions_keep_their_places_when_the_grid_changes() -> None:
    ramp = torch.linspace(0, 1, 8)
    grid = torch.stack([ramp.repeat(8), ramp.repeat_interleave(8)], dim=1)
    positions = torch.cat([torch.full((1, 2), 9.0), grid])[None]
    larger = checkpoints.interpolate_positions(positions, 1 + 16 * 16, 1)
    assert torch.equal(larger[:, 0], positions[:, 0])
    columns = larger[0, 1:, 0].reshape(16, 16)
    assert torch.allclose(columns, columns[:1].expand(16, -1), atol=1e-6)
    assert (columns[0].diff() > 0).all()
    back = checkpoints.interpolate_positions(larger, 65, 1)
    assert torch.allclose(back, positions, atol=0.06)


def _plain(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items()}
