"""Tiny LoRA runs that share their frozen weights, alone and together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.config.run import RunSpec
from core.models.backbones.build import network
from core.models.backbones.registry import backbone_card
from tests.core.conftest import SIDE

Lora = Callable[..., RunSpec]


@pytest.fixture
def lora(tiny: Callable[..., RunSpec], tmp_path: Path) -> Lora:
    """A run from fixed weights, in fp32; any ``section__field`` can be changed."""
    path = tmp_path / "weights.pth"
    torch.manual_seed(3)
    torch.save(network(backbone_card("timm:test_vit"), 2, SIDE).state_dict(), path)
    fixed = {
        "model__pretrained": True,
        "model__weights": path,
        "train__precision": "fp32",
        "train__lr": 0.003,
    }

    def make(**changes: Any) -> RunSpec:
        return tiny(**fixed | changes)

    return make
