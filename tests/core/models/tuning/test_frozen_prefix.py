"""The frozen prefix of a model: where it ends, and that both halves together equal the model."""

from typing import Any

import pytest
import torch
from torch import nn

from core.config.run import AdapterSpec
from core.models.backbones.build import network
from core.models.backbones.registry import backbone_card
from core.models.tuning import frozen_prefix
from core.models.tuning.apply import apply_method

SIDE = 64


def tuned(name: str, size: int = SIDE, drop_path: float = 0.0, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    card = backbone_card(name)
    model = network(card, 2, size, drop_path)
    nn.init.normal_(model.get_classifier().weight)  # type: ignore[operator]
    return apply_method(model, AdapterSpec(**settings))


@pytest.mark.parametrize(
    ("name", "settings", "block"),
    [
        ("timm:test_vit", {"method": "linear"}, None),
        ("timm:test_resnet", {"method": "linear"}, None),
        ("timm:test_vit", {"method": "last-k", "last_blocks": 2}, 4),
        ("timm:test_vit", {"method": "lora", "blocks": "3-4"}, 3),
        ("timm:test_vit", {"method": "dora", "blocks": "5"}, 5),
        ("timm:test_vit", {"method": "vblora", "blocks": "4-5"}, 4),
        ("timm:test_vit", {"method": "lora-fa", "blocks": "4-5"}, 4),
        ("timm:test_vit", {"method": "ia3", "blocks": "2,5"}, 2),
        ("timm:eva02_tiny_patch14_224", {"method": "lora", "blocks": "11"}, 11),
    ],
)
def test_both_halves_equal_the_model_and_its_gradients(
    name: str, settings: dict[str, Any], block: int | None
) -> None:
    size = 56 if "eva" in name else SIDE
    model = tuned(name, size, **settings)
    model.train()
    cut = frozen_prefix.cut(model, size, 3)
    assert cut is not None
    assert cut.block == block
    assert model.training
    pixels = torch.randn(4, 3, size, size)
    model.eval()
    trains = [one for one in model.parameters() if one.requires_grad]
    with torch.inference_mode():
        before = cut.before(pixels)
    assert before.shape[1:] == cut.shape
    logits, whole = cut.after(before.clone()), model(pixels)
    torch.testing.assert_close(logits, whole, atol=1e-5, rtol=1e-4)
    halves = torch.autograd.grad(logits.square().sum(), trains, allow_unused=True)
    wanted = torch.autograd.grad(whole.square().sum(), trains, allow_unused=True)
    for one, other in zip(halves, wanted, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    assert not {n for n, p in model.named_parameters() if p.requires_grad} & cut.frozen


@pytest.mark.parametrize("method", ["full", "lora", "bitfit", "ssf", "vpt", "ln-tuning"])
def test_a_model_that_trains_from_the_first_block_is_not_cut(method: str) -> None:
    assert frozen_prefix.cut(tuned("timm:test_vit", method=method), SIDE, 3) is None


def test_networks_that_connect_their_blocks_otherwise_are_not_cut() -> None:
    assert frozen_prefix.cut(tuned("timm:test_resnet", method="last-k"), SIDE, 3) is None
    model = tuned("timm:test_vit", method="last-k")
    model.forward_head = lambda tokens: model.head(tokens[:, 1])  # type: ignore[assignment]
    assert frozen_prefix.cut(model, SIDE, 3) is not None  # both halves change alike
    kept = model.forward_features
    model.forward_features = lambda pixels, **_: kept(pixels).flip(1)  # type: ignore[assignment,operator]
    assert frozen_prefix.cut(model, SIDE, 3) is None


def test_activation_checkpointing_recomputes_activations() -> None:
    model = tuned("timm:test_vit", method="last-k")
    cut = frozen_prefix.cut(model, SIDE, 3)
    assert cut is not None
    model.train()
    tokens = cut.before(torch.randn(2, 3, SIDE, SIDE)).detach()
    weight = model.get_parameter("blocks.5.mlp.fc2.weight")
    (plain,) = torch.autograd.grad(cut.after(tokens).sum(), weight)
    runs: list[int] = []
    model.get_submodule("blocks.5.mlp").register_forward_pre_hook(lambda *_: runs.append(1))
    model.set_grad_checkpointing(True)  # type: ignore[operator]
    (again,) = torch.autograd.grad(cut.after(tokens).sum(), weight)
    torch.testing.assert_close(again, plain)
    assert len(runs) == 2


def test_randomness_before_a_block_is_found() -> None:
    assert not frozen_prefix.draws(tuned("timm:test_vit", method="last-k"), 4)
    random = tuned("timm:test_vit", drop_path=0.1, method="last-k")
    assert frozen_prefix.draws(random, 4)
    assert not frozen_prefix.draws(random, 1)  # the rate rises from 0 in the first block
    assert not frozen_prefix.draws(
        tuned("timm:test_vit", method="lora", blocks="4-5", dropout=0.5), 4
    )


def test_the_frozen_share_needs_no_weights() -> None:
    def share(name: str, **settings: Any) -> float:
        return frozen_prefix.frozen_share(backbone_card(name), AdapterSpec(**settings), SIDE)

    assert share("timm:test_vit", method="last-k", last_blocks=2) == pytest.approx(4 / 6)
    assert share("timm:test_vit", method="lora", blocks="3-5") == 0.5
    assert share("timm:test_vit", method="lora") == share("timm:test_vit", method="full") == 0
    assert share("timm:test_resnet", method="last-k") == 0
