"""What was counted of the embedded backbones beforehand: told at once, without loading torch.

``python -m core.build_assets.counts`` makes ``assets/precomputed/counts.json``; tests count the
parameters again and the bytes of some methods, with ``CXR_LONG=1`` of all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from core.config.adapter import AdapterSpec
from core.models.backbones.card import BackboneCard
from core.workspace import PRECOMPUTED

FILE = PRECOMPUTED / "counts.json"


@dataclass(frozen=True)
class Line:
    """A number that grows with the findings.

    Attributes:
        fixed: What it is without any.
        each: What each adds.
    """

    fixed: int
    each: int

    def at(self, findings: int) -> int:
        """What it is for so many findings."""
        return self.fixed + self.each * findings


@dataclass(frozen=True)
class Tuned:
    """One backbone under one method.

    Attributes:
        trainable: Parameters that train.
        total: Parameters of the adapted model.
        targets: The named targets that fit the method.
        bytes: Fields of ``core.resources.network_memory.TensorBytes`` by precision, on a CPU.
    """

    trainable: Line
    total: Line
    targets: tuple[str, ...]
    bytes: dict[str, dict[str, Any]]


def tuned(card: BackboneCard, adapter: AdapterSpec, input_size: int | None) -> Tuned | None:
    """What is known of a backbone under a method; None if that was not counted beforehand.

    Args:
        card: The backbone.
        adapter: The method and its settings; alpha and dropout make no difference.
        input_size: Side of the input in pixels; by default the card's.
    """
    if input_size not in (None, card.input_size):
        return None
    found = _all().get(card.name, {}).get("methods", {}).get(key(adapter))
    if found is None:
        return None
    return Tuned(
        Line(*found["trainable"]), Line(*found["total"]), tuple(found["targets"]), found["bytes"]
    )


def operations(backbone: str, input_size: int) -> float | None:
    """Floating-point operations of one picture's forward pass; None if not counted beforehand."""
    found = _all().get(backbone, {})
    return found["operations"] if found.get("input_size") == input_size else None


def key(adapter: AdapterSpec) -> str:
    """The settings that a count depends on, as text: alpha scales what is there."""
    unheeded = {"alpha": AdapterSpec().alpha, "dropout": None, "imported": None}
    return adapter.filled().model_copy(update=unheeded).model_dump_json()


@lru_cache(maxsize=1)
def _all() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(FILE.read_text())
    except (OSError, ValueError):
        return {}  # then everything is counted when it is asked for
    return found
