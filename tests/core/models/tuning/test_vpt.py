"""Visual prompts: trainable tokens that only the blocks receive."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from core.config.run import AdapterSpec
from core.errors import ConfigurationError, ModelError
from core.models.backbones.build import network
from core.models.backbones.registry import backbone_card
from core.models.tuning import vpt
from core.models.tuning.apply import apply_method, merge_adapter
from core.saliency.explain import explain
from core.saliency.methods import layers

SIZES = {
    "timm:test_vit": 32,
    "timm:eva02_tiny_patch14_224": 56,
    "timm:vit_small_patch14_reg4_dinov2": 56,
}


def prompted(name: str = "timm:test_vit", **options: Any) -> Any:
    torch.manual_seed(0)
    model: Any = network(backbone_card(name), 3, SIZES[name])
    return apply_method(model, AdapterSpec(method="vpt", prompts=5, **options)).eval()


def pixels(name: str = "timm:test_vit") -> torch.Tensor:
    side = SIZES[name]
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("depth", ["deep", "shallow"])
@pytest.mark.parametrize("name", SIZES)
def test_blocks_receive_prompts_and_the_pooling_does_not(name: str, depth: Any) -> None:
    model = prompted(name, prompt_depth=depth)
    plain = prompted(name).patch_embed.num_patches + model.num_prefix_tokens
    seen: list[int] = []
    for block in model.blocks:
        block.norm1.register_forward_hook(lambda _, __, out: seen.append(out.shape[1]))
    with torch.inference_mode():
        features = model.forward_features(pixels(name))
    assert seen == [plain + 5] * len(model.blocks)
    assert features.shape[1] == plain
    own = [n for n, p in model.named_parameters() if p.requires_grad and n.endswith("prompts")]
    assert len(own) == (len(model.blocks) if depth == "deep" else 1)


@pytest.mark.parametrize("depth", ["deep", "shallow"])
def test_saliency_maps_exclude_prompts(depth: Any) -> None:
    model = prompted(prompt_depth=depth)
    assert layers.target_layer(model, "blocks.2.norm1").prefix == 1 + 5
    assert layers.target_layer(model, "blocks.5").prefix == 1
    assert layers.target_layer(model, "blocks.2").prefix == (1 if depth == "deep" else 6)
    for layer in ("blocks.2.norm1", "blocks.2", "blocks.5"):
        assert explain(model, pixels(), 0, layer=layer).shape == (2, 32, 32)
    with pytest.raises(ModelError, match="prompts take part in the attention"):
        explain(model, pixels(), 0, method="attention-rollout")


def test_prompts_change_the_logits() -> None:
    model = prompted()
    with torch.no_grad():
        model.head.weight.normal_()
        first = model(pixels())
        model.blocks[3].prompts.normal_()
        assert float((model(pixels()) - first).abs().max()) > 1e-4


def test_prompts_cannot_be_merged() -> None:
    model = prompted()
    assert vpt.has_prompts(model)
    with pytest.raises(ModelError, match="cannot be merged") as caught:
        merge_adapter(model)
    assert "lora" in caught.value.remedy


def test_a_network_without_tokens_is_rejected() -> None:
    model = network(backbone_card("timm:resnet18"), 3, 32)
    with pytest.raises(ConfigurationError, match="added to the patch tokens"):
        apply_method(model, AdapterSpec(method="vpt"))
