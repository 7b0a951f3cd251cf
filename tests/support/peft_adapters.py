"""Adapters made with plain peft, as other people have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.models.backbones.build import network
from core.models.backbones.registry import backbone_card
from core.models.peft_files.read import CONFIG, WEIGHTS

VIT = "timm:test_vit"
FUSED: dict[str, Any] = {"target_modules": ["qkv"], "modules_to_save": ["fc_norm", "head"]}


def plain_model(name: str = VIT, findings: int = 3, size: int = 32) -> Any:
    """A classifier with random weights, whose logits depend on its features."""
    torch.manual_seed(0)
    model: Any = network(backbone_card(name), findings, size)
    nn.init.normal_(model.get_classifier().weight, std=0.5)
    return model


def pixels(size: int = 32) -> Tensor:
    """Random input of shape [3, 3, size, size], always the same."""
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


def logits(model: Any, size: int = 32) -> Tensor:
    """Logits of a model for ``pixels``, in evaluation mode."""
    with torch.inference_mode():
        output: Tensor = model.eval()(pixels(size))
    return output


def save_adapter(folder: Path, config: Any, model: nn.Module) -> nn.Module:
    """Add an adapter to a model with plain peft, change its weights and save it.

    Returns:
        The adapted model.
    """
    wrapped: nn.Module = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    wrapped.save_pretrained(str(folder), save_embedding_layers=False)  # type: ignore[operator]
    return wrapped


def save_fused_lora(folder: Path) -> Path:
    """Save a LoRA adapter of the fused matrix, with its classifier; returns the folder."""
    save_adapter(folder, peft.LoraConfig(r=4, lora_alpha=8, **FUSED), plain_model())
    return folder


def change_config(folder: Path, **changes: Any) -> None:
    """Change entries of an adapter's configuration."""
    file = folder / CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    """Change tensors of an adapter."""
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS)
