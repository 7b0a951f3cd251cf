"""The map of a model: its parts by name, also after a split or an adapter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from core.config.run import AdapterSpec
from core.models.backbones import qkv
from core.models.backbones.build import network
from core.models.backbones.model_map import ModelMap, map_model
from core.models.backbones.registry import backbone_card
from core.models.tuning.apply import apply_method

SIZES = {
    "timm:test_vit": 32,
    "timm:eva02_tiny_patch14_224": 56,
    "timm:convnext_atto": 64,
    "timm:resnet18": 64,
    "timm:densenet121": 64,
}


def mapped(name: str) -> ModelMap:
    with torch.device("meta"):
        return map_model(network(backbone_card(name), 3, SIZES[name]))


@pytest.mark.parametrize(
    ("name", "classifier", "attentions", "mlp_layers", "blocks"),
    [
        ("timm:test_vit", ["fc_norm", "head"], 6, 12, 6),
        ("timm:eva02_tiny_patch14_224", ["fc_norm", "head"], 12, 24, 12),
        ("timm:convnext_atto", ["head.fc"], 0, 24, 12),
        ("timm:resnet18", ["fc"], 0, 0, 8),
        ("timm:densenet121", ["classifier"], 0, 0, 58),
    ],
)
def test_parts_of_each_architecture(
    name: str, classifier: list[str], attentions: int, mlp_layers: int, blocks: int
) -> None:
    parts = mapped(name)
    assert list(parts.classifier) == classifier
    assert len(parts.attentions) == attentions
    assert len(parts.mlp_layers) == mlp_layers
    assert parts.block_count == blocks
    assert set(parts.mlp_layers) <= parts.layers.keys()
    assert not any(parts.in_classifier(layer) for layer in parts.mlp_layers)
    assert parts.norms
    assert not parts.adapted_layers


def test_the_stem_and_the_classifier_are_outside_the_blocks() -> None:
    parts = mapped("timm:resnet18")
    assert parts.in_stem("conv1")
    assert parts.in_classifier("fc")
    assert not parts.in_stem("layer1.0.conv1")
    convolutions = parts.block_convolutions()
    assert "layer4.1.conv2" in convolutions
    assert "conv1" not in convolutions


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:eva02_tiny_patch14_224"])
def test_layers_added_later_belong_to_their_block(name: str) -> None:
    parts = mapped(name)
    qkv.split(parts)
    for attention, module in parts.attentions.items():
        for layer in qkv.projections(attention, module).values():
            assert parts.model.get_submodule(layer) is not None
            assert parts.block_of(layer) == int(attention.split(".")[1])
    assert parts.block_of("nowhere") is None


def test_adapted_layers_are_those_that_peft_wrapped() -> None:
    model: Any = mapped("timm:test_vit").model
    parts = map_model(apply_method(model, AdapterSpec(targets="mlp", blocks="4-5", rank=2)))
    assert set(parts.adapted_layers) == {
        f"blocks.{block}.mlp.{layer}" for block in (4, 5) for layer in ("fc1", "fc2")
    }
    assert parts.block_of("blocks.4.mlp.fc1.lora_A.default.weight") == 4
