"""How much a forward pass is to compute, and how fast this machine does it."""

from __future__ import annotations

import contextlib
import json
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from core import precision
from core.models import backbones, catalogue
from core.precision import Precision

BATCH = 32


@lru_cache(maxsize=64)
def forward_operations(backbone: str, input_size: int) -> float:
    """Floating-point operations of one picture's forward pass, counted on the meta device."""
    from torch.utils.flop_counter import FlopCounterMode

    card = catalogue.card(backbone)
    with torch.device("meta"):
        model, _ = backbones.build(card, 1, pretrained=False, input_size=input_size)
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
    file, key = cache / "speed.json", f"{'gpu' if gpu else 'cpu'} {chosen}"
    known: Any = {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(file.read_text())
    speed = known.get(key) if isinstance(known, dict) else None
    if isinstance(speed, float) and speed > 0:
        return speed
    speed = _measure(chosen, gpu=gpu)
    with contextlib.suppress(OSError):  # it is measured again next time
        cache.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps((known if isinstance(known, dict) else {}) | {key: speed}))
    return speed


def _measure(chosen: Precision, *, gpu: bool) -> float:
    card = catalogue.card("embedded-mae")
    device = torch.device("cuda" if gpu else "cpu")
    model, _ = backbones.build(card, 1, pretrained=False)
    model.eval().to(device)
    if chosen == "bf16" and not gpu:
        precision.spell_out_attention(model)
    pictures = torch.zeros(BATCH, card.channels, card.input_size, card.input_size, device=device)
    times = []
    lowered = precision.HALF.get(chosen)
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
