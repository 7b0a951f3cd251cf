"""Writes ``assets/precomputed/counts.json``, which ``core.models.tuning.precomputed`` reads.

``python -m core.build_assets.counts`` counts the parameters, operations and memory of the embedded
backbones with every method. Run it again when a backbone, a method or the memory model changes.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import torch

from core.config.run import AdapterSpec
from core.hardware.precision import Precision
from core.models.backbones.build import network
from core.models.backbones.card import BackboneCard
from core.models.backbones.model_map import map_model
from core.models.backbones.registry import BACKBONES
from core.models.tuning import precomputed
from core.models.tuning.apply import count_in_model
from core.models.tuning.registry import TUNING_METHODS
from core.models.tuning.targets import fitting
from core.resources import network_memory, throughput

RANKS = (1, 2, 4, 8, 16, 32)
"""The most common ranks of LoRA; other methods are counted with their default settings."""

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


def specs() -> list[AdapterSpec]:
    """The methods and settings that are counted."""
    plain = [AdapterSpec(method=name) for name in TUNING_METHODS]
    return plain + [AdapterSpec(rank=rank) for rank in RANKS if rank != AdapterSpec().rank]


def backbone(card: BackboneCard) -> dict[str, Any]:
    """The entry of a backbone."""
    return {
        "input_size": card.input_size,
        "operations": throughput.count_operations(card.name, card.input_size),
        "methods": {precomputed.key(spec): method(card, spec) for spec in specs()},
    }


def method(card: BackboneCard, adapter: AdapterSpec) -> dict[str, Any]:
    """The entry of a method in the entry of a backbone."""
    one, two = (count_in_model(card, adapter, findings) for findings in (1, 2))
    lines = {
        "trainable": [2 * one.trainable - two.trainable, two.trainable - one.trainable],
        "total": [2 * one.total - two.total, two.total - one.total],
    }
    without_dropout = adapter.model_copy(update={"dropout": 0.0})  # default of these backbones
    bytes_by_precision = {
        precision: network_memory.counted(
            network_memory.MemoryQuery(card.name, without_dropout, precision)
        )
        for precision in PRECISIONS
    }
    return {
        **lines,
        "targets": list(targets(card, adapter)),
        "bytes": {
            precision: asdict(counted)
            for precision, counted in bytes_by_precision.items()
            if counted is not None
        },
    }


def targets(card: BackboneCard, adapter: AdapterSpec) -> tuple[str, ...]:
    """The named targets of a backbone that a method can adapt."""
    chosen = TUNING_METHODS[adapter.method]
    if "targets" not in chosen.options:
        return ()
    with torch.device("meta"):
        return fitting(map_model(network(card, 1, card.input_size)), chosen.kind)


def everything() -> dict[str, Any]:
    """The content of ``assets/precomputed/counts.json``."""
    cards = [card for card in BACKBONES.values() if card.source == "embedded"]
    return {card.name: backbone(card) for card in cards}


if __name__ == "__main__":
    precomputed.FILE.write_text(json.dumps(everything(), indent=1) + "\n")
