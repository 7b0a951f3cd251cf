"""Attention for bf16 on a processor: nobody can tell it from what it stands in for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.models.backbones import bf16_attention
from core.models.backbones.build import build_backbone
from core.models.backbones.registry import backbone_card


def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention as its formula is written."""
    scaled = query * query.shape[-1] ** -0.5
    return (scaled @ key.transpose(-2, -1)).softmax(-1) @ value


def answers(
    attend: Callable[..., Tensor], shape: tuple[int, ...], kind: torch.dtype
) -> tuple[Tensor, ...]:
    """The output for some input of a shape, and the gradients of query, key and value."""
    random = torch.Generator().manual_seed(0)
    asked = [torch.randn(shape, generator=random).to(kind).requires_grad_() for _ in range(3)]
    out = attend(*asked)
    given = torch.randn(out.shape, generator=random).to(kind)
    return out.detach(), *torch.autograd.grad(out, asked, given)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(7, 3, 150, 64), (1, 2, 5, 8), (5, 4, 33, 80)])
def test_it_is_attention_with_its_gradients(
    shape: tuple[int, ...], kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bf16_attention, "VALUES", 2 * shape[1] * shape[2] ** 2)  # pictures a chunk
    for mine, right in zip(
        answers(bf16_attention.chunked, shape, kind), answers(plain, shape, kind), strict=True
    ):
        assert mine.shape == right.shape
        # Products of another batch may be added up in another order, which bf16 shows at once.
        worst = 0.02 if kind == torch.bfloat16 else 1e-5
        assert float((mine - right).abs().max() / right.abs().max()) < worst


def tuned(name: str, size: int) -> tuple[nn.Module, Tensor]:
    """A network of three outputs, and pictures for it."""
    card = backbone_card(name)
    model, _ = build_backbone(card, 3, pretrained=False, input_size=size)
    pictures = torch.randn(3, card.channels, size, size, generator=torch.Generator().manual_seed(0))
    return model.eval(), pictures


def trained(model: nn.Module, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits under autocast, and the gradients of all weights."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(pictures)
    weights = [one for one in model.parameters() if one.requires_grad]
    found = torch.autograd.grad(logits.float().square().sum(), weights, allow_unused=True)
    return logits.detach(), [one for one in found if one is not None]


@pytest.mark.parametrize(
    ("size", "patches", "fused"), [(128, 64, False), (256, 256, True), (512, 1024, True)]
)
def test_a_network_computes_the_same(size: int, patches: int, fused: bool) -> None:
    model, pictures = tuned("embedded-mae", size)
    before, first = trained(model, pictures)
    bf16_attention.install(model, patches)
    assert all(block.attn.fused_attn is fused for block in model.blocks)
    after, second = trained(model, pictures)
    assert torch.allclose(after, before, atol=0.02)
    whole = torch.cat([one.flatten() for one in first])
    other = torch.cat([one.flatten() for one in second])
    assert float((whole - other).norm() / whole.norm()) < 0.03


def test_no_square_of_the_tokens_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pictures = tuned("embedded-mae", 256)
    bf16_attention.install(model, 256)
    kept: list[Any] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one),
        torch.autocast("cpu", torch.bfloat16),
    ):
        model(pictures)
    assert kept
    assert not [shape for shape in kept if shape[-2:] == (257, 257)]


def test_a_copy_of_a_network_attends_by_its_own_weights() -> None:
    model, pictures = tuned("embedded-mae", 256)
    bf16_attention.install(model, 256)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for block in other.blocks:
            block.attn.qkv.weight.zero_()
    changed, _ = trained(other, pictures)
    kept, _ = trained(model, pictures)
    assert not torch.equal(changed, kept)


def test_what_is_masked_is_left_to_the_kernel() -> None:
    model, _ = tuned("embedded-mae", 256)
    attention: Any = model.blocks[0].attn  # type: ignore[index, union-attr]
    tokens = torch.randn(2, 257, 192)
    mask = torch.zeros(257, 257).masked_fill(torch.ones(257, 257).triu(1).bool(), -torch.inf)
    with torch.inference_mode():
        before = attention(tokens, attn_mask=mask)
        bf16_attention.install(model, 256)
        assert torch.allclose(attention(tokens, attn_mask=mask), before)
        assert not torch.allclose(attention(tokens), before, atol=1e-3)
