import numpy as np
import peft
import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from core.errors import ConfigurationError, DataError, ModelError, NotFiniteError
from core.saliency import layers, methods
from core.saliency.attention import attention_rollout, recorded

SIDE = 32
ALL = list(methods.METHODS)
OF_ANY_NETWORK = [name for name, one in methods.METHODS.items() if one.networks == "any"]


class Spot(nn.Module):
    """A classifier known by heart: finding 0 is brightness, finding 1 darkness."""

    num_classes = 2

    def __init__(self) -> None:
        super().__init__()
        self.aside, self.unused = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
        self.features = nn.Conv2d(1, 2, 4, stride=4, bias=False)
        self.act = nn.ReLU(inplace=True)
        with torch.no_grad():
            self.features.weight[0], self.features.weight[1] = 1 / 16, -1 / 16

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.aside(pixels)
        return self.act(self.features(pixels)).square().mean(dim=(2, 3)) * 500


def vit(**changes: object) -> VisionTransformer:
    torch.manual_seed(3)
    settings = {
        "img_size": SIDE, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2,
        "num_classes": 3, "global_pool": "avg",
    }  # fmt: skip
    return VisionTransformer(**{**settings, **changes}).eval()


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("method", ALL)
def test_every_method_gives_maps_of_the_input_and_leaves_the_model_as_it_was(method, pixels):
    model = vit().train()
    model.fc_norm.requires_grad_(False)
    asking = [weight.requires_grad for weight in model.parameters()]
    maps = methods.explain(model, pixels, 1, method=method)
    assert maps.shape == (2, SIDE, SIDE)
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    assert maps.min() >= 0 < maps.max()
    assert model.training
    assert model.blocks[0].training
    assert [weight.requires_grad for weight in model.parameters()] == asking
    assert all(weight.grad is None for weight in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(module.fused_attn for module in model.modules() if hasattr(module, "fused_attn"))


@pytest.mark.parametrize("method", ALL)
def test_a_batch_gives_what_each_picture_gives_alone(method, pixels):
    together = methods.explain(vit(), pixels, 2, method=method)
    alone = np.concatenate([methods.explain(vit(), one[None], 2, method=method) for one in pixels])
    np.testing.assert_allclose(together, alone, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("method", ALL)
def test_a_frozen_backbone_gives_the_same_map_as_a_trainable_one(method, pixels):
    frozen = vit()
    for name, weight in frozen.named_parameters():
        weight.requires_grad_(name.startswith(("fc_norm", "head")))
    there = methods.explain(vit(), pixels, 0, method=method)
    np.testing.assert_allclose(methods.explain(frozen, pixels, 0, method=method), there, atol=1e-7)


@pytest.mark.parametrize("method", OF_ANY_NETWORK)
def test_every_method_finds_the_bright_spot(method):
    pixels = torch.full((2, 1, SIDE, SIDE), 0.01)
    pixels[0, 0, 8:12, 20:24] = 1
    pixels[1, 0, 24:28, 4:8] = 1
    maps = methods.explain(Spot(), pixels, 0, method=method)
    for found, centre in zip(maps, ((10, 22), (26, 6)), strict=True):
        peak = np.unravel_index(found.argmax(), found.shape)
        assert np.hypot(peak[0] + 0.5 - centre[0], peak[1] + 0.5 - centre[1]) <= 4, method


def test_grad_cam_is_the_published_formula(pixels):
    model = vit(reg_tokens=2)
    kept = {}
    hook = model.blocks[-1].norm1.register_forward_hook(lambda _, __, out: kept.update(a=out))
    logit = model(pixels.requires_grad_(True))[:, 1].sum()
    (gradient,) = torch.autograd.grad(logit, kept["a"])
    hook.remove()
    features = kept["a"][:, 3:].detach()
    weights = gradient[:, 3:].mean(dim=1, keepdim=True)
    expected = (weights * features).sum(dim=2).clamp_min(0).reshape(2, 4, 4).numpy()
    found = methods.coarse(model, pixels.detach(), 1, "grad-cam")
    assert found.layer == "blocks.2.norm1"
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-9)


def test_the_scale_is_kept():
    pixels = torch.full((2, 1, SIDE, SIDE), 0.1)
    pixels[0, 0, 8:12, 8:12], pixels[1, 0, 8:12, 8:12] = 0.5, 1.0
    dim, bright = methods.coarse(Spot(), pixels, 0, "hirescam").values.max(axis=(1, 2))
    assert bright == pytest.approx(4 * dim, rel=1e-5)


def test_rollout_is_the_product_of_mixed_attention(pixels):
    model = vit(depth=2)
    with recorded(model) as blocks, torch.inference_mode():
        model(pixels)
    eye = torch.eye(17)
    first, second = (0.5 * block.mean(dim=1) + 0.5 * eye for block in blocks)
    expected = (second @ first)[:, 1:, 1:].mean(dim=1).reshape(2, 4, 4)
    np.testing.assert_allclose(attention_rollout(model, pixels), expected.numpy(), rtol=1e-5)
    assert blocks[0].sum(dim=-1).allclose(torch.ones(()))


@pytest.mark.parametrize(
    ("name", "settings", "side", "grid"),
    [
        ("resnet10t", {}, 64, (2, 2)),
        ("convnext_atto", {}, 64, (2, 2)),
        ("test_vit2", {"img_size": 64, "dynamic_img_size": True}, 96, (6, 6)),
        ("swin_tiny_patch4_window7_224", {"img_size": 64, "window_size": 2, "depths": (1, 1, 1, 1),
          "embed_dim": 24}, 64, (2, 2)),
        ("eva02_tiny_patch14_224", {"img_size": 56, "depth": 2}, 56, (4, 4)),
    ],
)  # fmt: skip
def test_layer_and_grid_come_from_the_network(name, settings, side, grid):
    model = timm.create_model(name, num_classes=2, **settings)
    found = methods.coarse(model, torch.randn(1, 3, side, side), 1, "layercam")
    assert found.values.shape == (1, *grid)
    assert found.layer in layers.names(model)


def test_a_wide_input_has_a_wide_grid():
    model = vit(img_size=(16, 32))
    pixels = torch.randn(1, 3, 16, 32)
    assert methods.coarse(model, pixels, 0, "grad-cam").values.shape == (1, 2, 4)
    assert methods.coarse(model, pixels, 0, "attention-rollout").values.shape == (1, 2, 4)


@pytest.mark.parametrize("method", ["grad-cam", "attention-relevance"])
def test_adapters_inside_and_around_the_network_do_not_hide_it(method, pixels):
    settings = peft.LoraConfig(r=2, target_modules=["qkv"])
    expected = methods.explain(vit(), pixels, 0, method=method)
    injected = peft.inject_adapter_in_model(settings, vit())
    np.testing.assert_allclose(methods.explain(injected, pixels, 0, method=method), expected)
    around = peft.get_peft_model(vit(), settings)
    np.testing.assert_allclose(methods.explain(around, pixels, 0, method=method), expected)
    assert layers.default(around) == "blocks.2.norm1"


def test_any_block_can_be_chosen(pixels):
    model = vit()
    chosen = layers.names(model)
    assert chosen == ["blocks.0.norm1", "blocks.1.norm1", "blocks.2.norm1", "blocks.2"]
    maps = [methods.explain(model, pixels, 0, layer=layer) for layer in chosen]
    assert not np.allclose(maps[0], maps[2])


def test_faults_are_said_in_words(pixels):
    model = vit()
    with pytest.raises(ConfigurationError, match="Did you mean grad-cam"):
        methods.explain(model, pixels, 0, method="gradcam")
    with pytest.raises(ModelError, match=r"Unknown layer “blocks\.9\.norm1”"):
        methods.explain(model, pixels, 0, layer="blocks.9.norm1")
    with pytest.raises(ModelError, match="cannot be laid over a picture"):
        methods.explain(model, pixels, 0, layer="head")
    for layer in ("aside", "unused"):
        with pytest.raises(ModelError, match="no influence on the output"):
            methods.explain(Spot(), pixels[:, :1], 0, layer=layer)
    with pytest.raises(DataError, match="no output 3"):
        methods.explain(model, pixels, 3)
    with pytest.raises(ModelError, match="no attention over patch tokens"):
        methods.explain(Spot(), pixels[:, :1], 0, method="attention-rollout")


@pytest.mark.parametrize("method", ALL)
def test_diverged_weights_make_an_error_and_no_map(method, pixels):
    model = vit()
    with torch.no_grad():
        model.patch_embed.proj.weight.fill_(torch.nan)
    with pytest.raises(NotFiniteError, match="not finite"):
        methods.explain(model, pixels, 0, method=method)
    assert not any(module._forward_hooks for module in model.modules())


def test_an_empty_and_an_even_map_are_noted():
    assert "zero everywhere" in methods.notes(np.zeros((4, 4), np.float32), "grad-cam")[0]
    assert "same everywhere" in methods.notes(np.ones((4, 4), np.float32), "grad-cam")[0]
    assert methods.notes(np.eye(4, dtype=np.float32), "grad-cam") == ()
    assert "not depend" in methods.notes(np.eye(4, dtype=np.float32), "eigencam")[0]


def test_enlarging_puts_each_value_at_its_patch_centre():
    small = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    large = methods.enlarge(small, (9, 12))
    np.testing.assert_allclose(large[:, 1::3, 1::3], small)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(small)[None], (9, 12), mode="bilinear"
    )[0]
    np.testing.assert_allclose(large, expected.numpy(), atol=1e-6)
