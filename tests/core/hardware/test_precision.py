"""The precision that a run takes on this machine."""

from __future__ import annotations

import pytest
import torch

from core.hardware import precision


@pytest.mark.parametrize("wanted", ["fp32", "bf16", "fp16"])
def test_what_is_asked_for_is_taken(wanted: str) -> None:
    assert precision.resolve_precision(wanted, gpu=False) == wanted


@pytest.mark.parametrize("gpu", [False, True])
def test_auto_follows_the_device(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert precision.resolve_precision("auto", gpu=gpu) == ("fp16" if gpu else "bf16")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert precision.resolve_precision("auto", gpu=gpu) == ("bf16" if gpu else "fp32")
