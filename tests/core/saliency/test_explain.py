from dataclasses import replace

import numpy as np
import peft
import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from core.config.adapter import AdapterSpec
from core.data.phantoms.dataset import Phantom
from core.data.transforms import EvalTransform
from core.errors import ConfigurationError, DataError, ModelError, NotFiniteError
from core.saliency.explain import coarse_maps, explain, explain_images, explain_study, notes
from core.saliency.methods import layers, rise
from core.saliency.methods.attention import attention_rollout, recorded
from core.saliency.methods.gradients import integrated_gradients, smooth_grad
from core.saliency.methods.registry import SALIENCY_METHODS, offered
from core.saliency.request import explain_study_of
from core.saliency.upsample import enlarge

SIDE = 32
ALL = offered(AdapterSpec())
LOOKING = [name for name in ALL if not SALIENCY_METHODS[name].baseline]
OF_ANY_NETWORK = [name for name in LOOKING if SALIENCY_METHODS[name].networks == "any"]


class Spot(nn.Module):
    """A classifier of known output: finding 0 is brightness, finding 1 darkness."""

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


def explained(model: nn.Module, pixels: torch.Tensor, finding: int, method: str) -> np.ndarray:
    """Maps by any method; the same patients without the finding are darker."""
    return explain(model, pixels, finding, method=method, without=0.2 * pixels)


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
    maps = explained(model, pixels, 1, method)
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
def test_a_map_does_not_depend_on_its_batch(method, pixels):
    together = explained(vit(), pixels, 2, method)
    alone = np.concatenate([explained(vit(), one[None], 2, method) for one in pixels])
    np.testing.assert_allclose(together, alone, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("method", ALL)
def test_a_frozen_backbone_gives_the_same_map_as_a_trainable_one(method, pixels):
    frozen = vit()
    for name, weight in frozen.named_parameters():
        weight.requires_grad_(name.startswith(("fc_norm", "head")))
    there = explained(vit(), pixels, 0, method)
    np.testing.assert_allclose(explained(frozen, pixels, 0, method), there, atol=1e-7)


@pytest.mark.parametrize("method", OF_ANY_NETWORK)
def test_every_method_finds_the_bright_spot(method):
    pixels = torch.full((2, 1, SIDE, SIDE), 0.01)
    pixels[0, 0, 8:12, 20:24] = 1
    pixels[1, 0, 24:28, 4:8] = 1
    without = torch.full_like(pixels, 0.01)
    maps = explain(Spot(), pixels, 0, method=method, without=without)
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
    found = coarse_maps(model, pixels.detach(), 1, "grad-cam")
    assert found.layer == "blocks.2.norm1"
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-9)


def test_the_scale_is_kept():
    pixels = torch.full((2, 1, SIDE, SIDE), 0.1)
    pixels[0, 0, 8:12, 8:12], pixels[1, 0, 8:12, 8:12] = 0.5, 1.0
    dim, bright = coarse_maps(Spot(), pixels, 0, "hirescam").values.max(axis=(1, 2))
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
    found = coarse_maps(model, torch.randn(1, 3, side, side), 1, "layercam")
    assert found.values.shape == (1, *grid)
    assert found.layer in layers.names(model)


def test_a_wide_input_has_a_wide_grid():
    model = vit(img_size=(16, 32))
    pixels = torch.randn(1, 3, 16, 32)
    assert coarse_maps(model, pixels, 0, "grad-cam").values.shape == (1, 2, 4)
    assert coarse_maps(model, pixels, 0, "attention-rollout").values.shape == (1, 2, 4)


@pytest.mark.parametrize("method", ["grad-cam", "attention-relevance"])
def test_adapters_inside_and_around_the_network_do_not_hide_it(method, pixels):
    settings = peft.LoraConfig(r=2, target_modules=["qkv"])
    expected = explain(vit(), pixels, 0, method=method)
    injected = peft.inject_adapter_in_model(settings, vit())
    np.testing.assert_allclose(explain(injected, pixels, 0, method=method), expected)
    around = peft.get_peft_model(vit(), settings)
    np.testing.assert_allclose(explain(around, pixels, 0, method=method), expected)
    assert layers.default(around) == "blocks.2.norm1"


def test_any_block_can_be_chosen(pixels):
    model = vit()
    chosen = layers.names(model)
    assert chosen == ["blocks.0.norm1", "blocks.1.norm1", "blocks.2.norm1", "blocks.2"]
    maps = [explain(model, pixels, 0, layer=layer) for layer in chosen]
    assert not np.allclose(maps[0], maps[2])


def test_invalid_requests_are_reported(pixels):
    model = vit()
    with pytest.raises(ConfigurationError, match="Did you mean grad-cam"):
        explain(model, pixels, 0, method="gradcam")
    with pytest.raises(ModelError, match=r"Unknown layer “blocks\.9\.norm1”"):
        explain(model, pixels, 0, layer="blocks.9.norm1")
    with pytest.raises(ModelError, match="forms no grid over the image"):
        explain(model, pixels, 0, layer="head")
    for layer in ("aside", "unused"):
        with pytest.raises(ModelError, match="no influence on the output"):
            explain(Spot(), pixels[:, :1], 0, layer=layer)
    with pytest.raises(DataError, match="no output 3"):
        explain(model, pixels, 3)
    with pytest.raises(ModelError, match="no attention over patch tokens"):
        explain(Spot(), pixels[:, :1], 0, method="attention-rollout")


@pytest.mark.parametrize("method", LOOKING)
def test_diverged_weights_raise_an_error(method, pixels):
    model = vit()
    with torch.no_grad():
        model.patch_embed.proj.weight.fill_(torch.nan)
    with pytest.raises(NotFiniteError, match="not finite"):
        explained(model, pixels, 0, method)
    assert not any(module._forward_hooks for module in model.modules())


def test_an_empty_and_a_uniform_map_have_a_note():
    assert "zero everywhere" in notes(np.zeros((4, 4), np.float32), "grad-cam")[0]
    assert "same value everywhere" in notes(np.ones((4, 4), np.float32), "grad-cam")[0]
    assert notes(np.eye(4, dtype=np.float32), "grad-cam") == ()
    assert "not depend" in notes(np.eye(4, dtype=np.float32), "eigencam")[0]


def test_enlarge_keeps_each_value_at_its_patch_centre():
    small = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    large = enlarge(small, (9, 12))
    np.testing.assert_allclose(large[:, 1::3, 1::3], small)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(small)[None], (9, 12), mode="bilinear"
    )[0]
    np.testing.assert_allclose(large, expected.numpy(), atol=1e-6)


def test_ablation_cam_weights_are_falls_of_the_logit(pixels):
    model = vit()
    features = []
    hook = model.blocks[-1].norm1.register_forward_hook(lambda _, __, out: features.append(out))
    with torch.inference_mode():
        whole = model(pixels)[:, 1]
    hook.remove()
    weights = []
    for channel in range(24):

        def silence(_, __, out, channel=channel):
            out[..., channel] = 0

        hook = model.blocks[-1].norm1.register_forward_hook(silence)
        with torch.inference_mode():
            weights.append(whole - model(pixels)[:, 1])
        hook.remove()
    by_channel = torch.stack(weights, dim=1)[:, None]
    expected = (by_channel * features[0][:, 1:]).sum(dim=2).clamp_min(0).reshape(2, 4, 4)
    found = coarse_maps(model, pixels, 1, "ablation-cam").values
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-6)


def test_integrated_gradients_add_up_to_the_rise_of_the_logit(pixels):
    model = vit()
    found = integrated_gradients(model, pixels, 1, steps=64)
    with torch.inference_mode():
        rise_of = (model(pixels) - model(torch.zeros_like(pixels)))[:, 1].numpy()
    assert found.min() < 0
    np.testing.assert_allclose(found.sum(axis=(1, 2)), rise_of, rtol=0.02, atol=1e-5)


def test_smoothgrad_without_noise_is_the_gradient(pixels):
    asked = pixels.clone().requires_grad_(True)
    model = vit()
    (gradient,) = torch.autograd.grad(model(asked)[:, 2].sum(), asked)
    found = smooth_grad(model, pixels, 2, samples=2, noise=0)
    np.testing.assert_allclose(found, gradient.abs().sum(dim=1).numpy(), rtol=1e-4, atol=1e-8)
    assert not np.allclose(found, smooth_grad(model, pixels, 2))


def test_rise_weights_each_mask_by_the_probability():
    class Corner(nn.Module):
        num_classes = 1

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels[:, :1, 0, 0]

    masks = rise.random_masks(256, (16, 16), 4, 0.5, 0)
    assert masks.shape == (256, 16, 16)
    assert 0 <= masks.min() < masks.max() <= 1
    assert 0.45 < float(masks.mean()) < 0.55
    scores = (4 * masks[:, 0, 0]).sigmoid()
    expected = ((scores - scores.mean())[:, None, None] * masks).sum(dim=0) / 128
    found = rise.rise_map(Corner(), torch.full((1, 3, 16, 16), 4.0), 0, masks=256, cells=4)
    np.testing.assert_allclose(found[0], expected.clamp_min(0).numpy(), atol=1e-6)
    assert found[0].argmax() == 0


def test_the_counterfactual_is_zero_where_the_patient_is_the_same():
    pixels = torch.full((1, 1, SIDE, SIDE), 0.01)
    without = pixels.clone()
    pixels[0, 0, 8:12, 20:24] = 1
    found = coarse_maps(Spot(), pixels, 0, "counterfactual", without=without).values[0]
    assert found.max() > 0
    assert not found[:, :8].any()
    assert not found[8:].any()
    same = coarse_maps(Spot(), pixels, 0, "counterfactual", without=pixels).values
    assert not same.any()
    with pytest.raises(DataError, match="only phantoms have"):
        explain(Spot(), pixels, 0, method="counterfactual")
    with pytest.raises(DataError, match="differs in size"):
        explain(Spot(), pixels, 0, method="counterfactual", without=pixels[..., 2:])


def test_the_baseline_is_a_gaussian_that_does_not_depend_on_the_model(pixels):
    first, second = (explain(vit(depth=n), pixels, 0, method="centre-gaussian")
                     for n in (1, 2))  # fmt: skip
    np.testing.assert_array_equal(first, second)
    assert np.unravel_index(first[0].argmax(), first[0].shape) in [(15, 15), (15, 16), (16, 15)]
    away, near = (7.5 / SIDE - 0.5) ** 2, (0.5 / SIDE) ** 2
    fall = np.exp(-(away - near) / (2 * 0.25**2))
    assert first[0, 15, 7] / first[0, 15, 15] == pytest.approx(fall, rel=1e-4)


@pytest.mark.parametrize("method", ALL)
def test_maps_come_back_in_the_coordinates_of_the_original(method, untrained):
    phantoms = Phantom(train=1, val=1, test=40, size=80)
    table = phantoms.table.loc[phantoms.ids("test"), list(phantoms.findings)]
    study, finding = next((one, f) for one, row in table.iterrows() for f in table if row[f] == 1)
    plain = untrained()
    model = replace(plain, transform=EvalTransform(SIDE, 0.5, 0.25, 3, 40))
    found = explain_study_of(model, phantoms, str(study), finding, method)
    seen = np.isfinite(found.explanation.map)
    assert found.explanation.map.shape == found.image.shape == (80, 80)
    assert found.explanation.map.dtype == np.float32
    assert seen[8:72, 8:72].all()
    assert not seen[:7].any()
    assert not seen[:, 73:].any()
    assert found.scores is not None
    assert found.scores.energy >= 0 or found.explanation.peak == 0
    assert all(note.endswith(".") for note in found.explanation.notes)


def test_several_images_give_the_maps_of_each_alone(untrained):
    model = untrained()
    of_two_sizes = [Phantom(train=1, val=1, test=1, size=side) for side in (64, 80)]
    images = [phantoms.read(phantoms.ids("test")[0]) for phantoms in of_two_sizes]
    wide = np.ascontiguousarray(images[1][:50])
    many = explain_images(model, [*images, wide], "Mass")
    for one, image in zip(many, [*images, wide], strict=True):
        alone = explain_study(model, image, "Mass")
        assert one.map.shape == image.shape
        np.testing.assert_allclose(one.map, alone.map, rtol=1e-3, atol=1e-7)
        assert one.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def test_tiny_and_huge_images_are_explained_with_a_note(untrained):
    model = untrained()
    noise = np.random.default_rng(0).integers(0, 255, (2500, 3000), np.uint8)
    tiny = explain_study(model, noise[:10, :10], "Mass")
    assert tiny.map.shape == (10, 10)
    assert any("only 10 × 10 px" in note for note in tiny.notes)
    huge = explain_study(model, noise, "Mass")
    assert huge.map.shape == (2500, 3000)
    assert np.isfinite(huge.map[:, 260:2740]).all()
    assert any("covers about" in note for note in huge.notes)
    with pytest.raises(DataError, match="has no finding “Broken rib”"):
        explain_study(model, noise[:10, :10], "Broken rib")
