"""Counts the embedded backbones under every method, for ``core.models.tuning.precomputed``.

``python -m core.build_assets.counts`` writes them; this has to be done again when a backbone, a
method or the way of counting memory changes.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from core.config.run import AdapterSpec
from core.hardware.precision import Precision
from core.models.backbones.card import BackboneCard
from core.models.backbones.registry import BACKBONES
from core.models.tuning import precomputed
from core.models.tuning.applicability import counted
from core.models.tuning.apply import counted_parameters
from core.models.tuning.registry import TUNING_METHODS
from core.resources import network_memory, throughput

RANKS = (1, 2, 4, 8, 16, 32)
"""Ranks of LoRA that are asked for most; every other method is counted as it stands."""

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


def specs() -> list[AdapterSpec]:
    """What is counted beforehand."""
    plain = [AdapterSpec(method=name) for name in TUNING_METHODS]
    return plain + [AdapterSpec(rank=rank) for rank in RANKS if rank != AdapterSpec().rank]


def backbone(card: BackboneCard) -> dict[str, Any]:
    """Everything that is counted beforehand of one backbone, as plain values."""
    targets = {one.method.name: one.targets for one in counted(card, 1)}
    return {
        "input_size": card.input_size,
        "operations": throughput.count_operations(card.name, card.input_size),
        "methods": {
            precomputed.key(one): method(card, one, targets[one.method]) for one in specs()
        },
    }


def method(card: BackboneCard, adapter: AdapterSpec, targets: tuple[str, ...]) -> dict[str, Any]:
    """What is counted beforehand of one backbone under one method, as plain values.

    Args:
        card: The backbone.
        adapter: The method and its settings.
        targets: The named targets that fit the method.
    """
    one, two = (counted_parameters(card, adapter, findings) for findings in (1, 2))
    lines = {
        name: precomputed.Line(2 * getattr(one, name) - getattr(two, name),
                          getattr(two, name) - getattr(one, name))
        for name in ("trainable", "total")
    }  # fmt: skip
    plain = adapter.model_copy(update={"dropout": 0.0})  # as these backbones are tuned
    held = {
        precision: network_memory.counted(network_memory.MemoryQuery(card.name, plain, precision))
        for precision in PRECISIONS
    }
    return {
        **{name: [line.fixed, line.each] for name, line in lines.items()},
        "targets": list(targets),
        "bytes": {name: asdict(found) for name, found in held.items() if found is not None},
    }


def everything() -> dict[str, Any]:
    """What ``assets/precomputed/counts.json`` holds."""
    cards = [card for card in BACKBONES.values() if card.source == "embedded"]
    return {card.name: backbone(card) for card in cards}


if __name__ == "__main__":
    precomputed.FILE.write_text(json.dumps(everything(), indent=1) + "\n")
