"""A fingerprint tells backbones apart and is the same wherever the same backbone is."""

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
def test_it_is_made_of_what_the_classifier_is_given(name: str, size: int) -> None:
    torch.manual_seed(2)
    model: Any
    model, _ = build_backbone(backbone_card(name), 3, pretrained=False, input_size=size)
    pixels = torch.randn(2, 3, size, size)
    found = features(model.train(), pixels)
    assert model.training
    with torch.inference_mode():
        model.eval()
        norm = model.fc_norm if hasattr(model, "fc_norm") else torch.nn.Identity()
        logits = model.get_classifier()(norm(found))
        assert torch.allclose(logits, model(pixels), atol=1e-6)
    short = fingerprint(model, pixels[:1])
    assert short.length == found.shape[1]
    assert short.norm == pytest.approx(float(found[0].norm()), rel=1e-4)
    assert short.first == pytest.approx(found[0, :6].tolist(), rel=1e-4)


def test_it_tells_weights_and_their_order_apart() -> None:
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
