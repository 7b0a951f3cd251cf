"""How much a forward pass is to compute, and how fast this machine does it."""

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

NOTE = "speed.json"

USUAL = {"fp32": 4e10, "bf16": 1e11, "fp16": 4e10}
"""Operations a second of one core of a usual processor, where this machine was not measured yet."""


def forward_operations(backbone: str, input_size: int) -> float:
    """Floating-point operations of one picture's forward pass."""
    known = precomputed.operations(backbone, input_size)
    return count_operations(backbone, input_size) if known is None else known


@lru_cache(maxsize=64)
def count_operations(backbone: str, input_size: int) -> float:
    """The same, counted on the meta device."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from core.models.backbones.build import build_backbone

    card = backbone_card(backbone)
    with torch.device("meta"):
        model, _ = build_backbone(card, 1, pretrained=False, input_size=input_size)
        picture = torch.empty(1, card.channels, input_size, input_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(picture)
    return float(counter.get_total_flops())


def operations_per_second(cache: Path, chosen: Precision, *, gpu: bool) -> float:
    """This machine's speed in a small transformer's forward pass, measured once and kept.

    Args:
        cache: Folder where the measurement is kept, as ``speed.json``.
        chosen: The precision it is measured in.
        gpu: Measure the GPU instead of the processor.
    """
    speed = known(cache, chosen, gpu=gpu)
    if speed is not None:
        return speed
    speed = _measure(chosen, gpu=gpu)
    with contextlib.suppress(OSError):  # it is measured again next time
        cache.mkdir(parents=True, exist_ok=True)
        (cache / NOTE).write_text(json.dumps(_noted(cache) | {_key(chosen, gpu): speed}))
    return speed


def known(cache: Path, chosen: Precision, *, gpu: bool) -> float | None:
    """What was measured of this machine, in operations a second; None before it was."""
    speed = _noted(cache).get(_key(chosen, gpu))
    return speed if isinstance(speed, float) and speed > 0 else None


def usual(chosen: Precision) -> float:
    """What a usual processor with as many cores does in a second."""
    return USUAL[chosen] * (psutil.cpu_count(logical=False) or 1)


def _key(chosen: Precision, gpu: bool) -> str:
    return f"{'gpu' if gpu else 'cpu'} {chosen}"


def _noted(cache: Path) -> dict[str, Any]:
    try:
        found: Any = json.loads((cache / NOTE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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
    pictures = torch.zeros(BATCH, card.channels, card.input_size, card.input_size, device=device)
    times = []
    lowered = precision.half(chosen)
    with (
        torch.inference_mode(),
        torch.autocast(device.type, lowered, enabled=lowered is not None),
    ):
        for _ in range(3):
            start = time.perf_counter()
            float(model(pictures).sum())
            times.append(time.perf_counter() - start)
    # The fastest, since other programs can only make it slower.
    return BATCH * forward_operations(card.name, card.input_size) / min(times)
