"""Comparison of this software's logits with those of the published code, on a small ViT."""

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
from core.models.backbones.model_map import map_model
from core.models.backbones.registry import BACKBONES
from core.models.tuning.apply import apply_method, merge_adapter

ALLOWED = {
    "logits": 1e-5,
    "logits at 96 px": 1e-4,
    "logits with LoRA, active": 1e-5,
    "logits with LoRA, merged": 1e-5,
}
"""Largest difference that counts as equal, in float32 on a CPU."""

_HEAD = ("fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias")
_SIZE = 96


@dataclass(frozen=True)
class Parity:
    """Result of a comparison.

    Attributes:
        report: How the checkpoint was loaded.
        differences: Largest absolute difference of the logits, by the keys of ``ALLOWED``.
    """

    report: LoadReport
    differences: dict[str, float]

    @property
    def holds(self) -> bool:
        """Whether every difference is at most the allowed one."""
        return all(value <= ALLOWED[name] for name, value in self.differences.items())


def compare(checkpoint: Path, reference: Path, card: str = "mrm") -> Parity:
    """Build the reference's network from a checkpoint and compare its logits.

    Args:
        checkpoint: A file in a published layout, of the reference's size.
        reference: A safetensors file with inputs, head, LoRA matrices and logits. A JSON file of
            the same name in the same folder holds the network's size.
        card: The backbone whose architecture is reduced to that size.

    Raises:
        ModelError: The reference is incomplete, or the checkpoint has another size.
    """
    config, tensors = _read(reference)
    size = {key: config[key] for key in ("embed_dim", "depth", "num_heads")}
    small = replace(BACKBONES[card], input_size=config["img_size"], arguments=size)

    def model(pixels: int | None = None) -> tuple[nn.Module, LoadReport]:
        built, report = build_backbone(
            small, config["num_classes"], weights=checkpoint, input_size=pixels
        )
        _set_parameters(built, {key: tensors[key] for key in _HEAD})
        return built.eval(), report

    plain, report = model()
    larger, _ = model(_SIZE)
    adapted, _ = model()
    rank, alpha = config["lora_rank"], config["lora_alpha"]
    apply_method(adapted, AdapterSpec(method="lora", rank=rank, alpha=alpha, dropout=0.0))
    _set_parameters(adapted, _lora_parameters(adapted, tensors))
    x, with_lora = tensors["x"], tensors["logits_lora"]
    differences = {
        "logits": _difference(plain, x, tensors["logits_fft"]),
        "logits at 96 px": _difference(larger, tensors["x96"], tensors["logits_fft_96"]),
        "logits with LoRA, active": _difference(adapted, x, with_lora),
        "logits with LoRA, merged": _difference(merge_adapter(adapted), x, with_lora),
    }
    return Parity(report, differences)


def _read(reference: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    tensors = checkpoints.read(reference)
    config_file = reference.with_suffix(".json")
    try:
        config: dict[str, Any] = json.loads(config_file.read_text())["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"The network's size cannot be read from {config_file}.",
            "Put the JSON file of the reference into the same folder.",
        ) from error
    needed = {"x", "x96", "logits_fft", "logits_fft_96", "logits_lora", *_HEAD}
    if needed - tensors.keys():
        raise ModelError(
            f"{reference} lacks {', '.join(sorted(needed - tensors.keys()))}.",
            "Give a reference with inputs, head, LoRA matrices and logits.",
        )
    return config, tensors


def _lora_parameters(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The reference's LoRA matrices, by their parameter names in a model adapted with peft."""
    parameters = {}
    for i, (name, module) in enumerate(map_model(model).attentions.items()):
        layers = qkv.projections(name, module)
        for part in "qv":
            for matrix in ("lora_A", "lora_B"):
                value = tensors[f"blocks.{i}.{part}.{matrix}"]
                parameters[f"{layers[part]}.{matrix}.default.weight"] = value
    return parameters


def _set_parameters(model: nn.Module, values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            model.get_parameter(name).copy_(value)


def _difference(model: nn.Module, x: Tensor, expected: Tensor) -> float:
    with torch.inference_mode():
        return float((model(x) - expected).abs().max())
