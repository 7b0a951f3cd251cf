import itertools

import numpy as np
import peft
import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from core.saliency.explain import explain
from core.saliency.scores import sanity

SIDE = 32


def vit() -> VisionTransformer:
    torch.manual_seed(3)
    return VisionTransformer(
        img_size=SIDE, patch_size=8, embed_dim=24, depth=3, num_heads=2, num_classes=3,
        global_pool="avg",
    ).eval()  # fmt: skip


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def by(method: str) -> sanity.ExplainModel:
    return lambda model, pixels: explain(model, pixels, 1, method=method)


def test_weights_are_randomised_from_the_head_to_the_input(pixels):
    names = [name for name, _ in sanity.weight_groups(vit())]
    assert names[:2] == ["head", "fc_norm"]
    assert names[2:5] == ["blocks.2", "blocks.1", "blocks.0"]
    assert names[5] == "patch_embed"
    model = vit()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    found = sanity.cascading_randomisation(model, pixels, by("grad-cam"))
    assert found.steps == tuple(names)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    counted = sum(len(weights) for _, weights in sanity.weight_groups(model))
    assert counted == len(before)


def test_each_step_adds_one_group(pixels):
    seen = []

    def watch(model, pixels):
        seen.append({name: weight.detach().clone() for name, weight in model.named_parameters()})
        return np.arange(3 * SIDE * SIDE, dtype=np.float32).reshape(3, SIDE, SIDE)

    found = sanity.cascading_randomisation(vit(), pixels, watch)
    changed = [
        {name for name in seen[0] if not torch.equal(seen[0][name], now[name])} for now in seen[1:]
    ]
    assert changed[0] == {"head.weight"}  # its bias is zero, and stays so
    assert all(a <= b for a, b in itertools.pairwise(changed))
    assert "patch_embed.proj.weight" in changed[-1]
    spread = seen[-1]["blocks.1.attn.qkv.weight"].std() / seen[0]["blocks.1.attn.qkv.weight"].std()
    assert float(spread) == pytest.approx(1, abs=0.1)
    assert found.correlations == pytest.approx((1,) * len(found.steps))


def test_a_map_of_the_image_fails_and_a_map_of_the_model_passes(pixels):
    edges = sanity.cascading_randomisation(
        vit(), pixels, lambda _, p: p[:, 0].abs().numpy(), max_steps=2
    )
    assert edges.failed
    assert "fails the sanity check" in edges.sentence("Edges")
    assert len(edges.steps) == 2
    assert edges.steps[0] == "head"
    ours = sanity.cascading_randomisation(vit(), pixels, by("hirescam"))
    assert not ours.failed
    assert "passes" in ours.sentence("HiResCAM")
    even = sanity.cascading_randomisation(
        vit(), pixels, lambda _, p: np.ones((3, 4, 4), np.float32), max_steps=1
    )
    assert not even.failed
    assert "cannot compare" in even.sentence("Even")


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto"])
def test_other_networks_have_stages(name):
    groups = sanity.weight_groups(timm.create_model(name, num_classes=2))
    assert "head" in groups[0][0] or "fc" in groups[0][0]
    assert len(groups) >= 4


def test_adapters_are_randomised_with_their_block():
    model = peft.get_peft_model(vit(), peft.LoraConfig(r=2, target_modules=["qkv"]))
    groups = dict(sanity.weight_groups(model))
    assert len(groups["blocks.2"]) == len(dict(sanity.weight_groups(vit()))["blocks.2"]) + 2
