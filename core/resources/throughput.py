"""Operations of a forward pass, and operations per second of this machine."""

from __future__ import annotations

import contextlib
import json
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from core.hardware import precision
from core.hardware.precision import Precision
from core.models.backbones.registry import backbone_card
from core.models.tuning import precomputed

BATCH = 32

SPEED_FILE = "speed.json"

TYPICAL = {"fp32": 4e10, "bf16": 1e11, "fp16": 4e10}
"""Operations per second of one core of a typical CPU, used until this machine is measured."""


def forward_operations(backbone: str, input_size: int) -> float:
    """Floating-point operations of one image's forward pass, precomputed or counted."""
    operations = precomputed.operations(backbone, input_size)
    return count_operations(backbone, input_size) if operations is None else operations


@lru_cache(maxsize=64)
def count_operations(backbone: str, input_size: int) -> float:
    """Count the floating-point operations of one image's forward pass on the meta device."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from core.models.backbones.build import build_backbone

    card = backbone_card(backbone)
    with torch.device("meta"):
        model, _ = build_backbone(card, 1, pretrained=False, input_size=input_size)
        image = torch.empty(1, card.channels, input_size, input_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(image)
    return float(counter.get_total_flops())


def operations_per_second(cache: Path, chosen: Precision, *, gpu: bool) -> float:
    """Operations per second of this machine in a small transformer, measured once per workspace.

    Args:
        cache: Folder where the measurement is stored, as ``speed.json``.
        chosen: The precision to measure.
        gpu: Measure the GPU instead of the CPU.
    """
    speed = measured(cache, chosen, gpu=gpu)
    if speed is not None:
        return speed
    speed = _measure(chosen, gpu=gpu)
    with contextlib.suppress(OSError):  # the next call measures again
        cache.mkdir(parents=True, exist_ok=True)
        (cache / SPEED_FILE).write_text(json.dumps(_stored(cache) | {_key(chosen, gpu): speed}))
    return speed


def measured(cache: Path, chosen: Precision, *, gpu: bool) -> float | None:
    """The stored measurement in operations per second; None if there is none yet."""
    speed = _stored(cache).get(_key(chosen, gpu))
    return speed if isinstance(speed, float) and speed > 0 else None


def typical(chosen: Precision) -> float:
    """Operations per second of a typical CPU with as many cores as this machine has."""
    return TYPICAL[chosen] * (psutil.cpu_count(logical=False) or 1)


def _key(chosen: Precision, gpu: bool) -> str:
    return f"{'gpu' if gpu else 'cpu'} {chosen}"


def _stored(cache: Path) -> dict[str, Any]:
    try:
        values: Any = json.loads((cache / SPEED_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _measure(chosen: Precision, *, gpu: bool) -> float:
    import torch

    from core.models.backbones import bf16_attention
    from core.models.backbones.build import build_backbone

    card = backbone_card("embedded-mae")
    device = torch.device("cuda" if gpu else "cpu")
    model, _ = build_backbone(card, 1, pretrained=False)
    model.eval().to(device)
    if chosen == "bf16" and not gpu:
        bf16_attention.install(model)
    images = torch.zeros(BATCH, card.channels, card.input_size, card.input_size, device=device)
    times = []
    half = precision.half(chosen)
    with torch.inference_mode(), torch.autocast(device.type, half, enabled=half is not None):
        for _ in range(3):
            start = time.perf_counter()
            float(model(images).sum())
            times.append(time.perf_counter() - start)
    # The fastest time counts: other programs can only make a pass slower.
    return BATCH * forward_operations(card.name, card.input_size) / min(times)
