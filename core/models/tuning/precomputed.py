"""Precomputed counts of the embedded backbones, so that forms and estimates need no torch.

``python -m core.build_assets.counts`` writes ``assets/precomputed/counts.json``. Where a count is
missing there, the callers build the model and count. Tests compare both for the parameters and for
the bytes of some methods; with ``CXR_LONG=1`` for the bytes of all.
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
class LinearCount:
    """A number that grows linearly: ``fixed``, and ``each`` for every finding."""

    fixed: int
    each: int

    def at(self, findings: int) -> int:
        """Its value for a number of findings."""
        return self.fixed + self.each * findings


@dataclass(frozen=True)
class Counts:
    """Precomputed counts of one backbone with one method.

    Attributes:
        trainable: Number of parameters that train.
        total: Number of parameters of the adapted model.
        targets: The named targets that the method can adapt.
        bytes: Fields of ``core.resources.network_memory.TensorBytes`` by precision, on a CPU.
    """

    trainable: LinearCount
    total: LinearCount
    targets: tuple[str, ...]
    bytes: dict[str, dict[str, Any]]


def find(card: BackboneCard, adapter: AdapterSpec, input_size: int | None) -> Counts | None:
    """Counts of a backbone with a method; None if they are not precomputed.

    Args:
        card: The backbone.
        adapter: The method and its settings; alpha and dropout do not change the counts.
        input_size: Side of the input in pixels; by default the card's.
    """
    if input_size not in (None, card.input_size):
        return None
    entry = _content().get(card.name, {}).get("methods", {}).get(key(adapter))
    if entry is None:
        return None
    return Counts(
        LinearCount(*entry["trainable"]),
        LinearCount(*entry["total"]),
        tuple(entry["targets"]),
        entry["bytes"],
    )


def operations(backbone: str, input_size: int) -> float | None:
    """Floating-point operations of a forward pass of one image; None if not precomputed."""
    entry = _content().get(backbone, {})
    return entry["operations"] if entry.get("input_size") == input_size else None


def key(adapter: AdapterSpec) -> str:
    """The settings that the counts depend on, as JSON: all but alpha, dropout and an import."""
    irrelevant = {"alpha": AdapterSpec().alpha, "dropout": None, "imported": None, "combined": None}
    return adapter.filled().model_copy(update=irrelevant).model_dump_json()


@lru_cache(maxsize=1)
def _content() -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(FILE.read_text())
    except (OSError, ValueError):
        return {}  # without the file everything is counted when needed, which only takes longer
    return content
