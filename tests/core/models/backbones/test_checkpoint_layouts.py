"""Every published layout loads completely and gives the features of its authors' code.

Largest difference of the features, relative to their spread: at most 3e-5 is allowed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from core.errors import ModelError
from core.models.backbones import checkpoint_layouts, checkpoints
from core.models.backbones.build import build_backbone, fitting_backbones, network
from core.models.backbones.fingerprint import features
from core.models.backbones.registry import BACKBONES
from tests.support.published import PUBLISHED, Published, eva_x, mae

RELATIVE = 3e-5


def written(published: Published, path: Path) -> Path:
    torch.save(published.content, path)
    return path


def difference(model: Any, published: Published) -> float:
    generator = torch.Generator().manual_seed(4)
    side = published.card.input_size
    x = torch.randn(2, published.card.channels, side, side, generator=generator)
    with torch.inference_mode():
        expected = published.features(x)
    found = features(model, x)
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.std())


def test_every_backbone_with_published_weights_is_covered() -> None:
    shipped = {name for name, card in BACKBONES.items() if card.source == "embedded"}
    assert {name.split(",")[0] for name in PUBLISHED} == BACKBONES.keys() - shipped


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_file_gives_the_features_of_its_authors_code(name: str, tmp_path: Path) -> None:
    torch.manual_seed(sum(map(ord, name)))
    published = PUBLISHED[name]()
    path = written(published, tmp_path / "weights.pth")
    model: Any
    model, report = build_backbone(published.card, 3, weights=path)
    assert difference(model, published) < RELATIVE
    started = {key.split(".")[0] for key in report.missing}
    counters = {key for key in report.missing if key.endswith("num_batches_tracked")}
    assert not counters
    assert started <= {"fc_norm", "head", "classifier", "fc"}
    assert {key.split(".")[0] for key in report.unexpected} == published.beside
    assert not report.reshaped
    assert report.sha256 == checkpoints.sha256(path)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_file_that_lacks_a_tensor_is_rejected(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    published = PUBLISHED[name]()
    weights, place = published.content, ""
    for inner in ("teacher", "model", "module"):
        if isinstance(weights.get(inner), dict):
            weights, place = weights[inner], inner
    last = [key for key in weights if _in_the_encoder(key)][-1]
    kept = {key: value for key, value in weights.items() if key != last}
    content = {place: kept} if place else kept
    path = written(replace(published, content=content), tmp_path / "weights.pth")
    with pytest.raises((ModelError, KeyError), match=r"lacks|does not have"):
        build_backbone(published.card, 3, weights=path)


def _in_the_encoder(key: str) -> bool:
    inside = ("blocks.", "encoder.layer.", "features.", "layer4.")
    beside = ("decoder_", "head", "rope", "index", "mask", "tracked", "text.")
    return any(part in key for part in inside) and not any(part in key for part in beside)


@pytest.mark.parametrize("separate", [False, True])
def test_projections_are_joined_or_split_to_match_the_network(
    separate: bool, tmp_path: Path
) -> None:
    published = eva_x("eva-x-base", separate=separate)
    fused = replace(
        published.card,
        architecture="eva02_base_patch14_224",
        arguments={**published.card.arguments, "qkv_fused": separate, "scale_mlp": separate},
    )
    model, report = build_backbone(fused, 3, weights=written(published, tmp_path / "a.pt"))
    kinds = {key.split(".")[3] for key in model.state_dict() if ".attn." in key}
    assert ("qkv" in kinds) == separate
    assert difference(model, published) < RELATIVE
    assert all(key.startswith(("fc_norm", "head")) for key in report.missing)


@pytest.mark.parametrize("name", ["eva-x-base", "chexfound"])
def test_a_gated_mlp_is_joined_or_split_to_match_the_network(name: str) -> None:
    model = network(PUBLISHED[name]().card, 3, 64)
    own = {key: torch.randn_like(value) for key, value in model.state_dict().items()}
    other = {}
    for key, value in own.items():
        if ".mlp.fc1_g." in key:
            other[key.replace("fc1_g", "w12")] = torch.cat([value, own[key.replace("_g", "_x")]])
        elif ".mlp.fc1." in key:
            for half, part in zip(("w1", "w2"), value.chunk(2), strict=True):
                other[key.replace("fc1", half)] = part
        elif ".mlp.fc1_x." not in key:
            other[key] = value
    assert other.keys() != own.keys()
    found = checkpoint_layouts.translate(model, other)
    assert found.keys() == own.keys()
    assert all(torch.equal(found[key], own[key]) for key in own)


def test_safetensors_in_the_hubs_layout_under_the_authors_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    published = PUBLISHED["rad-dino"]()
    folder = tmp_path / "models--microsoft--rad-dino"
    blob = folder / "blobs" / "0123"
    snapshot = folder / "snapshots" / "abc"
    for place in (blob.parent, snapshot, folder / "refs"):
        place.mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    save_file({key: value.contiguous() for key, value in published.content.items()}, blob)
    (snapshot / "model.safetensors").symlink_to(blob)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model, report = build_backbone(published.card, 3)
    assert difference(model, published) < RELATIVE
    assert report.sha256 == checkpoints.sha256(blob)
    with pytest.raises(
        ModelError, match=r"HF_HUB_OFFLINE is set.*huggingface\.co/MapleF/eva_x.*--weights FILE"
    ):
        build_backbone(BACKBONES["eva-x-tiny"], 3)


@pytest.mark.slow
def test_a_file_finds_the_backbones_it_fits() -> None:
    def whole(name: str) -> dict[str, Tensor]:
        card = BACKBONES[name]
        with torch.device("meta"):
            return network(card, 1, card.input_size).state_dict()

    def names(state: dict[str, Tensor]) -> list[str]:
        return [card.name for card in fitting_backbones(state)]

    assert names(whole("eva-x-small")) == ["eva-x-small"]
    assert names(whole("xrv-resnet50")) == ["xrv-resnet50"]
    assert names(whole("mrm")) == ["mrm", "cxr-mae", "medical-mae-b"]
    assert names(mae("mrm").content["model"]) == []


def test_positions_follow_another_input_size(tmp_path: Path) -> None:
    for name in ("rad-dino, with registers", "chexfound", "eva-x-base", "ark"):
        published = PUBLISHED[name]()
        size = {56: 84, 64: 128}[published.card.input_size]
        path = written(published, tmp_path / "a.pth")
        model: Any
        model, report = build_backbone(published.card, 3, weights=path, input_size=size)
        assert report.reshaped == (() if name == "ark" else ("pos_embed",))
        with torch.inference_mode():
            assert model.eval()(torch.randn(1, 3, size, size)).shape == (1, 3)
    published = PUBLISHED["ark"]()
    model, report = build_backbone(published.card, 3, weights=path, input_size=32)
    assert all(key.endswith("relative_position_bias_table") for key in report.reshaped)
    assert report.reshaped
