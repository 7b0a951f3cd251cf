"""The precision that a run takes on this machine."""

from __future__ import annotations

import pytest
import torch

from core import precision
from core.models import backbones, catalogue


@pytest.mark.parametrize("wanted", ["fp32", "bf16", "fp16"])
def test_what_is_asked_for_is_taken(wanted: str) -> None:
    assert precision.chosen(wanted, gpu=False) == wanted


@pytest.mark.parametrize("gpu", [False, True])
def test_auto_follows_the_device(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert precision.chosen("auto", gpu=gpu) == ("fp16" if gpu else "bf16")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert precision.chosen("auto", gpu=gpu) == ("bf16" if gpu else "fp32")


def test_attention_that_is_spelt_out_gives_the_same() -> None:
    card = catalogue.card("embedded-mae")
    model, _ = backbones.build(card, 3, pretrained=False)
    model.eval()
    pictures = torch.randn(2, card.channels, card.input_size, card.input_size)
    with torch.inference_mode():
        before = model(pictures)
        precision.spell_out_attention(model, tokens=precision.PLAIN_TOKENS + 1)
        assert all(block.attn.fused_attn for block in model.blocks)
        precision.spell_out_attention(model, tokens=65)
        assert not any(block.attn.fused_attn for block in model.blocks)
        assert torch.allclose(model(pictures), before, atol=1e-5)
