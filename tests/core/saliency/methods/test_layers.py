"""The layer and token grid of each backbone follow from the model itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from core.config.run import AdapterSpec
from core.errors import ModelError
from core.models.backbones.build import build_backbone, network
from core.models.backbones.card import BackboneCard
from core.models.backbones.registry import BACKBONES, backbone_card
from core.models.tuning.apply import apply_method
from core.saliency.explain import coarse_maps
from core.saliency.methods import layers
from core.saliency.methods.registry import SALIENCY_METHODS

VIT = {"embed_dim": 24, "depth": 3, "num_heads": 2}
SWIN = {"embed_dim": 12, "depths": (1, 1, 1), "num_heads": (1, 2, 4), "window_size": 4}


def tiny(name: str, size: int, **arguments: Any) -> BackboneCard:
    one = backbone_card(name)
    return replace(one, input_size=size, arguments={**one.arguments, **arguments})


TINY = {
    "embedded-mae": (tiny("embedded-mae", 64, **VIT), "blocks.2.norm1", 1, (4, 4)),
    "eva-x-tiny": (tiny("eva-x-tiny", 64, **VIT), "blocks.2.norm1", 1, (4, 4)),
    "eva-x-base": (tiny("eva-x-base", 64, **VIT), "blocks.2.norm1", 1, (4, 4)),
    "rad-dino": (tiny("rad-dino", 70, **VIT), "blocks.2.norm1", 1, (5, 5)),
    "chexfound": (tiny("chexfound", 64, **VIT), "blocks.2.norm1", 5, (4, 4)),
    "biomedclip": (tiny("biomedclip", 64, **VIT), "blocks.2.norm1", 1, (4, 4)),
    "ark": (tiny("ark", 64, **SWIN), "layers.2", 0, (4, 4)),
    "xrv-densenet121": (tiny("xrv-densenet121", 64), "features.norm5", 0, (2, 2)),
    "xrv-resnet50": (tiny("xrv-resnet50", 64), "layer4", 0, (2, 2)),
    "dinov3": (tiny("timm:vit_small_patch16_dinov3", 64, **VIT), "blocks.2.norm1", 5, (4, 4)),
    "convnext": (tiny("timm:convnext_atto", 64), "stages.3", 0, (2, 2)),
}
ATTENTIVE = [name for name, one in TINY.items() if one[1].startswith("blocks")]


def built(name: str) -> Any:
    torch.manual_seed(5)
    model, _ = build_backbone(TINY[name][0], 3, pretrained=False)
    with torch.no_grad():  # the study's head starts so small that maps would be rounding
        model.get_classifier().weight.normal_()  # type: ignore[operator]
    return model.eval()


def example_input(name: str) -> torch.Tensor:
    one = TINY[name][0]
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, one.channels, one.input_size, one.input_size, generator=generator)


@pytest.mark.slow
def test_every_family_of_the_registry_is_tested() -> None:
    families = {type(network(one, 1, one.input_size)).__name__
                for one, *_ in TINY.values()}  # fmt: skip
    with torch.device("meta"):
        wanted = {type(network(one, 1, one.input_size)).__name__
                  for one in BACKBONES.values()}  # fmt: skip
    assert wanted <= families


@pytest.mark.parametrize("name", TINY)
def test_layer_prefix_and_grid_are_those_of_the_architecture(name: str) -> None:
    _, layer, prefix, grid = TINY[name]
    model = built(name)
    assert layers.default(model) == layer
    assert layers.target_layer(model).prefix == prefix
    found = coarse_maps(model, example_input(name), 1, "hirescam")
    assert found.layer == layer
    assert found.values.shape == (1, *grid)


@pytest.mark.parametrize("name", TINY)
def test_a_patch_of_the_grid_is_at_its_location_in_the_image(name: str) -> None:
    """In the first layer with a grid, a changed corner of the image changes that corner most."""
    model = built(name)
    first = layers.names(model)[0]
    site = layers.target_layer(model, first)
    kept: list[torch.Tensor] = []
    size = TINY[name][0].input_size
    hook = site.module.register_forward_hook(
        lambda _, __, out: kept.append(site.features(out, (size, size)))
    )
    plain = example_input(name)
    corner = plain.clone()
    corner[..., : size // 4, -(size // 4) :] += 3
    with torch.inference_mode():
        model(plain)
        model(corner)
    hook.remove()
    change = (kept[0] - kept[1]).abs().mean(1)[0].numpy()
    row, column = np.unravel_index(change.argmax(), change.shape)
    assert row < change.shape[0] / 2
    assert column >= change.shape[1] / 2


@pytest.mark.parametrize("name", ATTENTIVE)
@pytest.mark.parametrize("method", ["attention-rollout", "attention-relevance"])
def test_attention_maps_exclude_class_token_and_registers(name: str, method: str) -> None:
    found = coarse_maps(built(name), example_input(name), 1, method)
    assert found.values.shape == (1, *TINY[name][3])
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize("name", [name for name in TINY if not name.startswith("xrv")])
def test_an_adapted_backbone_keeps_its_layer_and_grid(name: str) -> None:
    model = built(name)
    targets = "mlp" if name == "convnext" else "qv"
    adapted = apply_method(model, AdapterSpec(method="lora", rank=2, targets=targets))  # type: ignore[arg-type]
    found = coarse_maps(adapted.eval(), example_input(name), 1, "grad-cam")
    plain = coarse_maps(built(name), example_input(name), 1, "grad-cam")
    assert found.layer == TINY[name][1]
    np.testing.assert_allclose(found.values, plain.values, rtol=1e-3, atol=1e-6)


GRADIENTS = ("grad-cam++", "layercam", "integrated-gradients", "smoothgrad")


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_a_linear_probe_has_maps_although_only_its_head_is_trained(name: str) -> None:
    probe = apply_method(built(name), AdapterSpec(method="linear")).eval()
    for method in GRADIENTS:
        found = coarse_maps(probe, example_input(name), 1, method).values
        assert np.isfinite(found).all()
        assert found.max() > 0, method


@pytest.mark.parametrize("name", ["embedded-mae", "ark", "convnext"])
@pytest.mark.parametrize("method", [n for n, one in SALIENCY_METHODS.items() if one.slow])
def test_slow_methods_support_each_kind_of_network(name: str, method: str) -> None:
    pixels = example_input(name)
    found = coarse_maps(built(name), pixels, 1, method, without=pixels * 0.5)
    assert found.values.ndim == 3
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize("name", sorted(set(TINY) - set(ATTENTIVE)))
def test_attention_maps_of_a_network_without_patch_tokens_raise_an_error(name: str) -> None:
    for method in ("attention-rollout", "attention-relevance"):
        with pytest.raises(ModelError, match="has no attention over patch tokens"):
            coarse_maps(built(name), example_input(name), 1, method)
