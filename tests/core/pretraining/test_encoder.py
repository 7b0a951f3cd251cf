"""Export of an encoder and loading it again."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from core.errors import ModelError
from core.pretraining.encoder import export_encoder, load_encoder


def grey(size: int = 32) -> torch.nn.Module:
    return timm.create_model("test_vit", img_size=size, in_chans=1, num_classes=0)


def test_an_exported_encoder_is_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one, other = grey(), grey()
    path = tmp_path / "encoder.safetensors"
    save_file(export_encoder(one), path)
    load_encoder(other, path)
    x = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        a, b = one.forward_features(x), other.forward_features(x)
    assert torch.allclose(a, b, atol=2e-2)
    assert torch.equal(other.pos_embed, one.pos_embed.half().float())


def test_another_input_size_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    save_file(export_encoder(grey(48)), path)
    with pytest.raises(ModelError, match="does not fit the encoder"):
        load_encoder(grey(), path)
