"""Attention in bf16 on a CPU gives the outputs and gradients of the attention it replaces."""

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
    """Attention by its formula."""
    scaled = query * query.shape[-1] ** -0.5
    return (scaled @ key.transpose(-2, -1)).softmax(-1) @ value


def answers(
    attend: Callable[..., Tensor], shape: tuple[int, ...], kind: torch.dtype
) -> tuple[Tensor, ...]:
    """The output for random input of a shape, and the gradients of query, key and value."""
    random = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=random).to(kind).requires_grad_() for _ in range(3)]
    out = attend(*inputs)
    given = torch.randn(out.shape, generator=random).to(kind)
    return out.detach(), *torch.autograd.grad(out, inputs, given)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(7, 3, 150, 64), (1, 2, 5, 8), (5, 4, 33, 80)])
def test_outputs_and_gradients_equal_plain_attention(
    shape: tuple[int, ...], kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        bf16_attention, "CHUNK_SIZE", 2 * shape[1] * shape[2] ** 2
    )  # images per chunk
    for chunked, expected in zip(
        answers(bf16_attention.chunked_attention, shape, kind),
        answers(plain, shape, kind),
        strict=True,
    ):
        assert chunked.shape == expected.shape
        # The order of summation depends on the batch, which changes bf16 results slightly.
        tolerance = 0.02 if kind == torch.bfloat16 else 1e-5
        assert float((chunked - expected).abs().max() / expected.abs().max()) < tolerance


def tuned(name: str, size: int) -> tuple[nn.Module, Tensor]:
    """A network with three outputs, and images for it."""
    card = backbone_card(name)
    model, _ = build_backbone(card, 3, pretrained=False, input_size=size)
    images = torch.randn(3, card.channels, size, size, generator=torch.Generator().manual_seed(0))
    return model.eval(), images


def trained(model: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits under autocast, and the gradients of all weights."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    weights = [one for one in model.parameters() if one.requires_grad]
    found = torch.autograd.grad(logits.float().square().sum(), weights, allow_unused=True)
    return logits.detach(), [one for one in found if one is not None]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "patches", "fused"), [(128, 64, False), (256, 256, True), (512, 1024, True)]
)
def test_a_network_gives_the_same_outputs_and_gradients(
    size: int, patches: int, fused: bool
) -> None:
    model, images = tuned("embedded-mae", size)
    before, first = trained(model, images)
    bf16_attention.install(model, patches)
    assert all(block.attn.fused_attn is fused for block in model.blocks)
    after, second = trained(model, images)
    assert torch.allclose(after, before, atol=0.02)
    whole = torch.cat([one.flatten() for one in first])
    other = torch.cat([one.flatten() for one in second])
    assert float((whole - other).norm() / whole.norm()) < 0.03


def test_no_tokens_by_tokens_matrix_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = tuned("embedded-mae", 256)
    bf16_attention.install(model, 256)
    kept: list[Any] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        model(images)
    assert kept
    assert not [shape for shape in kept if shape[-2:] == (257, 257)]


def test_a_copied_network_uses_its_own_weights() -> None:
    model, images = tuned("embedded-mae", 256)
    bf16_attention.install(model, 256)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for block in other.blocks:
            block.attn.qkv.weight.zero_()
    changed, _ = trained(other, images)
    kept, _ = trained(model, images)
    assert not torch.equal(changed, kept)


def test_masked_attention_uses_the_fused_kernel() -> None:
    model, _ = tuned("embedded-mae", 256)
    attention: Any = model.blocks[0].attn  # type: ignore[index, union-attr]
    tokens = torch.randn(2, 257, 192)
    mask = torch.zeros(257, 257).masked_fill(torch.ones(257, 257).triu(1).bool(), -torch.inf)
    with torch.inference_mode():
        before = attention(tokens, attn_mask=mask)
        bf16_attention.install(model, 256)
        assert torch.allclose(attention(tokens, attn_mask=mask), before)
        assert not torch.allclose(attention(tokens), before, atol=1e-3)
