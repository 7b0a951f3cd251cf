"""Which tuning methods a backbone supports, what each of them trains, and their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from core.config.run import AdapterSpec
from core.errors import ConfigurationError
from core.models.tuning import precomputed
from core.models.tuning.apply import ParameterCount, count_parameters
from core.models.tuning.method import LayerKind, Method
from core.models.tuning.registry import TUNING_METHODS

if TYPE_CHECKING:
    from core.models.backbones.card import BackboneCard
    from core.models.backbones.model_map import ModelMap


@dataclass(frozen=True)
class Offer:
    """A method for a backbone.

    Attributes:
        method: The method.
        spec: Its settings, all at their defaults; the targets are the first that fit.
        targets: The named targets that the method can adapt; empty if there is no choice.
        count: Parameters that train; None if the method cannot tune the backbone.
        why: Why it cannot tune the backbone, as a sentence; empty if it can.
    """

    method: Method
    spec: AdapterSpec
    targets: tuple[str, ...]
    count: ParameterCount | None
    why: str = ""


def offers(card: BackboneCard, findings: int, input_size: int | None = None) -> tuple[Offer, ...]:
    """Every method with what it trains on a backbone; precomputed counts need no torch.

    Args:
        card: The backbone.
        findings: Number of outputs of the classifier.
        input_size: Side of the input in pixels; by default the card's.

    Raises:
        ConfigurationError: The input size does not suit the architecture.
    """
    return tuple(_offer(card, name, findings, input_size) for name in TUNING_METHODS)


@lru_cache(maxsize=1024)
def _offer(card: BackboneCard, name: str, findings: int, input_size: int | None) -> Offer:
    method, spec = TUNING_METHODS[name], AdapterSpec(method=name)
    targets = fitting_targets(card, method, input_size)
    if "targets" in method.options and spec.targets not in targets:
        # If no target fits, the error for “all” explains why.
        spec = spec.model_copy(update={"targets": targets[0] if targets else "all"})
    try:
        count = count_parameters(card, spec, findings, input_size)
    except ConfigurationError as error:
        if error.field == "model.input_size":
            raise
        return Offer(method, spec.filled(), targets, None, error.cause)
    return Offer(method, spec.filled(), targets, count)


def fitting_targets(
    card: BackboneCard, method: Method, input_size: int | None = None
) -> tuple[str, ...]:
    """The named targets of a backbone that a method can adapt; empty if it has no such setting.

    Args:
        card: The backbone.
        method: The method.
        input_size: Side of the input in pixels; by default the card's.
    """
    if "targets" not in method.options:
        return ()
    known = precomputed.find(card, AdapterSpec(method=method.name), input_size)
    if known is not None:
        return known.targets
    return _fitting_targets(card, method.kind, input_size or card.input_size)


@lru_cache(maxsize=64)
def _fitting_targets(card: BackboneCard, kind: LayerKind, input_size: int) -> tuple[str, ...]:
    from core.models.tuning import targets

    return targets.fitting(_map_without_memory(card, input_size), kind)


@lru_cache(maxsize=4)
def _map_without_memory(card: BackboneCard, input_size: int) -> ModelMap:
    import torch

    from core.models.backbones.build import network
    from core.models.backbones.model_map import map_model

    with torch.device("meta"):
        return map_model(network(card, 1, input_size))


def defaults(method: Method) -> dict[str, Any]:
    """The default of each setting of a method; a description where it depends on the model."""
    filled = AdapterSpec(method=method.name).filled()
    described = {"dropout": "0.1 (embedded backbone: 0)"}
    values = {name: getattr(filled, name) for name in method.options}
    return {
        name: described.get(name, method.options[name].default) if value is None else value
        for name, value in values.items()
    }
