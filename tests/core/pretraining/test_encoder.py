"""An encoder's way to a file and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from core.errors import ModelError
from core.pretraining import encoder


def grey(size: int = 32) -> torch.nn.Module:
    return timm.create_model("test_vit", img_size=size, in_chans=1, num_classes=0)


def test_what_is_exported_starts_another(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one, other = grey(), grey()
    path = tmp_path / "encoder.safetensors"
    save_file(encoder.exported(one), path)
    encoder.start_from(other, path)
    x = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        a, b = one.forward_features(x), other.forward_features(x)
    assert torch.allclose(a, b, atol=2e-2)
    assert torch.equal(other.pos_embed, one.pos_embed.half().float())


def test_another_size_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    save_file(encoder.exported(grey(48)), path)
    with pytest.raises(ModelError, match="does not fit the encoder"):
        encoder.start_from(grey(), path)
