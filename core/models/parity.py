"""How far this software's logits are from those of the published code, on its own small ViT."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.config.run import AdapterSpec
from core.errors import ModelError
from core.models.backbones import checkpoints, qkv
from core.models.backbones.build import build_backbone
from core.models.backbones.checkpoints import LoadReport
from core.models.backbones.registry import BACKBONES
from core.models.tuning.apply import apply_method, merge_adapter

ALLOWED = {
    "logits": 1e-5,
    "logits at 96 px": 1e-4,
    "logits with LoRA, active": 1e-5,
    "logits with LoRA, merged": 1e-5,
}
"""The largest difference that counts as equal, float32 on a CPU."""

_HEAD = ("fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias")
_SIZE = 96


@dataclass(frozen=True)
class Parity:
    """What a comparison found.

    Attributes:
        report: How the checkpoint was loaded.
        differences: Largest absolute difference of the logits, by the keys of ``ALLOWED``.
    """

    report: LoadReport
    differences: dict[str, float]

    @property
    def holds(self) -> bool:
        """Whether every difference is within what is allowed."""
        return all(value <= ALLOWED[name] for name, value in self.differences.items())


def compare(checkpoint: Path, reference: Path, card: str = "mrm") -> Parity:
    """Build the reference's network from a checkpoint and compare its logits.

    Args:
        checkpoint: A file in a published layout, of the reference's size.
        reference: A safetensors file of inputs, head, LoRA matrices and logits; the JSON file of
            the same name beside it tells the network's size.
        card: The backbone whose architecture is shrunk to that size.

    Raises:
        ModelError: The reference is incomplete, or the checkpoint is not of its size.
    """
    told, given = _read(reference)
    size = {key: told[key] for key in ("embed_dim", "depth", "num_heads")}
    small = replace(BACKBONES[card], input_size=told["img_size"], arguments=size)

    def model(pixels: int | None = None) -> tuple[nn.Module, LoadReport]:
        built, report = build_backbone(
            small, told["num_classes"], weights=checkpoint, input_size=pixels
        )
        _put(built, {key: given[key] for key in _HEAD})
        return built.eval(), report

    plain, report = model()
    larger, _ = model(_SIZE)
    adapted, _ = model()
    rank, alpha = told["lora_rank"], told["lora_alpha"]
    apply_method(adapted, AdapterSpec(method="lora", rank=rank, alpha=alpha, dropout=0.0))
    _put(adapted, _lora(adapted, given))
    found = {
        "logits": _apart(plain, given["x"], given["logits_fft"]),
        "logits at 96 px": _apart(larger, given["x96"], given["logits_fft_96"]),
        "logits with LoRA, active": _apart(adapted, given["x"], given["logits_lora"]),
    }
    merged = merge_adapter(adapted)
    found["logits with LoRA, merged"] = _apart(merged, given["x"], given["logits_lora"])
    return Parity(report, found)


def _read(reference: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    given = checkpoints.read(reference)
    beside = reference.with_suffix(".json")
    try:
        told: dict[str, Any] = json.loads(beside.read_text())["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"The network's size is not to be read from {beside}.",
            "Put the JSON file of the reference beside it.",
        ) from error
    needed = {"x", "x96", "logits_fft", "logits_fft_96", "logits_lora", *_HEAD}
    if needed - given.keys():
        raise ModelError(
            f"{reference} lacks {', '.join(sorted(needed - given.keys()))}.",
            "Give a reference with inputs, head, LoRA matrices and logits.",
        )
    return told, given


def _lora(model: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The reference's LoRA matrices by the names that peft gives them in this model."""
    found = {}
    for i, (name, module) in enumerate(qkv.attentions(model)):
        layers = qkv.projections(name, module)
        for part in "qv":
            for matrix in ("lora_A", "lora_B"):
                value = given[f"blocks.{i}.{part}.{matrix}"]
                found[f"{layers[part]}.{matrix}.default.weight"] = value
    return found


def _put(model: nn.Module, values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            model.get_parameter(name).copy_(value)


def _apart(model: nn.Module, x: Tensor, expected: Tensor) -> float:
    with torch.inference_mode():
        return float((model(x) - expected).abs().max())
