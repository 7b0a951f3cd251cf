"""A fingerprint distinguishes backbones and is reproducible."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from core.models.backbones.build import build_backbone
from core.models.backbones.fingerprint import features, fingerprint
from core.models.backbones.registry import backbone_card

SIZES = {
    "timm:test_vit": 64,
    "timm:resnet18": 64,
    "timm:convnext_atto": 64,
    "timm:eva02_tiny_patch14_224": 56,
}


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_it_describes_the_features_that_the_classifier_receives(name: str, size: int) -> None:
    torch.manual_seed(2)
    model: Any
    model, _ = build_backbone(backbone_card(name), 3, pretrained=False, input_size=size)
    pixels = torch.randn(2, 3, size, size)
    values = features(model.train(), pixels)
    assert model.training
    with torch.inference_mode():
        model.eval()
        norm = model.fc_norm if hasattr(model, "fc_norm") else torch.nn.Identity()
        logits = model.get_classifier()(norm(values))
        assert torch.allclose(logits, model(pixels), atol=1e-6)
    short = fingerprint(model, pixels[:1])
    assert short.length == values.shape[1]
    assert short.norm == pytest.approx(float(values[0].norm()), rel=1e-4)
    assert short.first == pytest.approx(values[0, :6].tolist(), rel=1e-4)


def test_it_depends_on_the_order_of_features() -> None:
    card = replace(backbone_card("timm:test_vit"), input_size=64)
    torch.manual_seed(2)
    model: Any
    model, _ = build_backbone(card, 3, pretrained=False)
    pixels = torch.randn(1, 3, 64, 64)
    before = fingerprint(model, pixels)
    assert fingerprint(model, pixels) == before
    with torch.no_grad():
        for block in model.blocks:  # the same features in another order
            for layer in (block.attn.proj, block.mlp.fc2):
                layer.weight.copy_(layer.weight.roll(1, 0))
                layer.bias.copy_(layer.bias.roll(1, 0))
    assert fingerprint(model, pixels).wave != pytest.approx(before.wave, rel=1e-3)
