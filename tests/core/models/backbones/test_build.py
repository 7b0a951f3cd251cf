"""Backbones are built as their cards specify, with clear errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from core.errors import ConfigurationError, ModelError
from core.models.backbones.build import build_backbone, network
from core.models.backbones.registry import BACKBONES, backbone_card, provenance
from core.workspace import BACKBONE_FILES
from tests.support import paths

GOLDEN = paths.GOLDEN / "models"
TIMM = {
    "timm:test_vit": 64,
    "timm:vit_tiny_patch16_224": 64,
    "timm:vit_small_patch14_dinov2.lvd142m": 56,
    "timm:vit_small_patch16_dinov3": 64,
    "timm:eva02_tiny_patch14_224": 56,
    "timm:swin_tiny_patch4_window7_224": 224,
    "timm:convnext_atto": 64,
    "timm:densenet121": 64,
    "timm:resnet18": 64,
}


@pytest.mark.parametrize(("name", "size"), TIMM.items())
def test_every_family_gets_a_new_head(name: str, size: int) -> None:
    card = backbone_card(name)
    torch.manual_seed(0)
    model: Any
    model, report = build_backbone(card, 3, pretrained=False, input_size=size, drop_path=0.1)
    head = model.get_classifier()
    assert 1e-5 < float(head.weight.detach().std()) < 3e-5
    assert not head.bias.any()
    with torch.inference_mode():
        logits = model.eval()(torch.randn(2, card.channels, size, size))
    assert logits.shape == (2, 3)
    assert float(logits.abs().max()) < 0.1
    assert report.sha256 is None


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:vit_small_patch16_dinov3"])
def test_transformers_pool_the_mean_of_their_patch_tokens(name: str) -> None:
    model: Any = network(backbone_card(name), 3, 64).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        tokens = model.forward_features(x)[:, model.num_prefix_tokens :]
        assert tokens.shape[1] == 16
        expected = model.head(model.fc_norm(tokens.mean(1)))
        assert torch.allclose(model(x), expected, atol=1e-6)
    assert isinstance(model.norm, torch.nn.Identity)


def test_drop_path_rises_to_its_rate_in_the_last_block() -> None:
    model: Any = network(BACKBONES["embedded-mae"], 3, 128, drop_path=0.1)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in model.blocks]
    assert rates == pytest.approx([0.1 * i / 11 for i in range(12)])


def test_random_weights_follow_the_seed() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        model, _ = build_backbone(backbone_card("timm:test_vit"), 3, pretrained=False)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(
    "name", [name for name, card in BACKBONES.items() if card.source == "embedded"]
)
def test_embedded_backbones_match_their_cards(name: str) -> None:
    card = BACKBONES[name]
    path = BACKBONE_FILES / str(card.weights)
    model, report = build_backbone(card, 14)
    assert not report.unexpected
    assert not report.reshaped
    assert {key.split(".")[0] for key in report.missing} == {"fc_norm", "head"}
    assert path.stat().st_size < 12e6
    record = provenance(card.name)
    assert record["sha256"] == report.sha256
    assert (record["mean"], record["std"], record["input_size"]) == (
        card.mean,
        card.std,
        card.input_size,
    )
    assert record["finished"]
    assert record["command"].startswith("python -m core pretrain")
    assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize(("size", "choices"), [(100, "96 or 112"), (130, "128 or 144")])
def test_an_input_size_must_be_a_multiple_of_the_patch_size(size: int, choices: str) -> None:
    with pytest.raises(ConfigurationError, match=choices) as caught:
        network(BACKBONES["embedded-mae"], 3, size)
    assert caught.value.field == "model.input_size"


@pytest.mark.parametrize("name", [n for n, c in BACKBONES.items() if c.source == "file"])
def test_missing_weights_name_the_authors_page(name: str) -> None:
    with pytest.raises(ModelError, match=r"https://github\.com/.*--weights FILE") as caught:
        build_backbone(BACKBONES[name], 14)
    assert BACKBONES[name].obtain in caught.value.remedy
    assert caught.value.field == "model.weights"


def test_a_local_file_replaces_the_cards_weights() -> None:
    shape = json.loads((GOLDEN / "reference.json").read_text())["config"]
    card = replace(
        BACKBONES["mrm"],
        input_size=64,
        arguments={key: shape[key] for key in ("embed_dim", "depth", "num_heads")},
    )
    _, report = build_backbone(card, 14, weights=GOLDEN / "mrm_tiny.pth")
    assert len(report.matched) == 40
    assert any(key.startswith("bert_encoder") for key in report.unexpected)
    with pytest.raises(ModelError, match=r"has shape|lacks"):
        build_backbone(BACKBONES["mrm"], 14, weights=GOLDEN / "mrm_tiny.pth")


def test_without_a_network_it_fails_at_once_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ModelError, match=r"127\.0\.0\.1 cannot be reached.*random weights"):
        build_backbone(backbone_card("timm:test_vit.r160_in1k"), 3)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        build_backbone(backbone_card("timm:test_vit.r160_in1k"), 3)


HUB = {
    "timm:test_vit.r160_in1k": 64,
    "timm:vit_tiny_patch16_224.augreg_in21k": 64,
    "timm:vit_small_patch16_dinov3.lvd1689m": 64,
    "timm:eva02_tiny_patch14_224.mim_in22k": 56,
    "timm:convnext_atto.d2_in1k": 64,
    "timm:swin_tiny_patch4_window7_224.ms_in22k": 224,
    "timm:resnet18.a1_in1k": 64,
    "timm:densenet121.ra_in1k": 64,
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), HUB.items())
def test_weights_in_the_hubs_cache_are_used(
    name: str, size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import timm

    card = backbone_card(name)
    torch.manual_seed(3)
    source = timm.create_model(card.architecture).eval()
    folder = tmp_path / f"models--{card.hub.replace('/', '--')}"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    save_file(source.state_dict(), folder / "snapshots" / "abc" / card.hub_files[0])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model: Any
    model, report = build_backbone(card, 3, input_size=size)
    held = source.state_dict()
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], held[key]) for key in report.matched)
    assert set(report.reshaped) <= {"pos_embed"}
    assert report.sha256
    classifier = next(n for n, m in model.named_modules() if m is model.get_classifier())
    assert all(key.startswith(("fc_norm.", f"{classifier}.")) for key in report.missing)
    parts = {key.split(".")[0] for key in report.unexpected}
    assert parts <= {"norm", "fc_norm", "mask_token", classifier.split(".")[0]}


ELSEWHERE = {
    "timm:resnet18": "timm:test_vit",
    "timm:test_vit": "timm:resnet18",
    "timm:convnext_atto": "timm:swin_tiny_patch4_window7_224",
    "timm:densenet121": "timm:resnet18",
    "timm:vit_tiny_patch16_224": "timm:eva02_tiny_patch14_224",
}


@pytest.mark.parametrize(("given", "wanted"), ELSEWHERE.items())
def test_a_checkpoint_of_another_architecture_is_rejected(
    given: str, wanted: str, tmp_path: Path
) -> None:
    source, _ = build_backbone(backbone_card(given), 3, pretrained=False)
    torch.save(source.state_dict(), tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"lacks|does not have|has shape") as caught:
        build_backbone(backbone_card(wanted), 3, weights=tmp_path / "a.pth")
    assert caught.value.field == "model.weights"
    assert "same architecture" in caught.value.remedy
