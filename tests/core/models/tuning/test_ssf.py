"""SSF: a scale and a shift for every layer, merged exactly into the weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from core.config.run import AdapterSpec
from core.models.backbones.build import network
from core.models.backbones.registry import backbone_card
from core.models.tuning.apply import apply_method, merge_adapter

SIZES = {
    "timm:test_vit": 32, "timm:eva02_tiny_patch14_224": 56, "timm:resnet18": 32,
    "timm:densenet121": 32, "timm:convnext_atto": 32,
}  # fmt: skip


def small_model(name: str) -> Any:
    torch.manual_seed(0)
    model: Any = network(backbone_card(name), 3, SIZES[name])
    torch.nn.init.normal_(model.get_classifier().weight)
    return model.eval()


@pytest.mark.parametrize("name", SIZES)
def test_it_starts_as_the_backbone_and_merges_into_it(name: str) -> None:
    side = SIZES[name]
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    plain = small_model(name)
    model = apply_method(small_model(name), AdapterSpec(method="ssf")).eval()
    with torch.inference_mode():
        first = plain(pixels)
        assert float((model(pixels) - first).abs().max()) < 1e-4
    with torch.no_grad():
        for one, parameter in model.named_parameters():
            if parameter.requires_grad and "parametrizations" in one:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        tuned = model(pixels)
        assert float((tuned - first).abs().max()) > 1e-2
        merged = merge_adapter(copy.deepcopy(model))
        assert float((merged(pixels) - tuned).abs().max()) < 1e-4
        assert float((model(pixels) - tuned).abs().max()) == 0  # a copy was merged, not the model
        again = small_model(name)
        again.load_state_dict(merged.state_dict())
        assert float((again(pixels) - tuned).abs().max()) < 1e-4


def test_a_layer_without_a_bias_gets_none() -> None:
    model = apply_method(small_model("timm:resnet18"), AdapterSpec(method="ssf"))
    assert model.layer1[0].conv1.bias is None  # type: ignore[index,union-attr]
    own = {n for n, p in model.named_parameters() if p.requires_grad}
    assert "layer1.0.conv1.parametrizations.weight.0.scale" in own
    assert "layer1.0.bn1.parametrizations.bias.0.shift" in own
