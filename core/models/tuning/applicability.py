"""What each way of tuning would do to a backbone: what trains, or why it does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from core.config.run import AdapterSpec
from core.errors import ConfigurationError
from core.models.tuning import precomputed
from core.models.tuning.registry import TUNING_METHODS, Method

if TYPE_CHECKING:
    from core.models.backbones.registry import BackboneCard
    from core.models.tuning.apply import ParameterCount


@dataclass(frozen=True)
class Offer:
    """One method on one backbone.

    Attributes:
        method: The method.
        spec: Its settings, all at their defaults; targets are the first that fit.
        targets: The named targets that fit; empty where there is no choice.
        count: What trains; None where the method does not fit.
        why: Why it does not fit, as a sentence; empty where it does.
    """

    method: Method
    spec: AdapterSpec
    targets: tuple[str, ...]
    count: ParameterCount | None
    why: str = ""


def offers(card: BackboneCard, findings: int, input_size: int | None = None) -> tuple[Offer, ...]:
    """Say for every method what it would train on a backbone, without torch where that is known.

    Args:
        card: The backbone.
        findings: Outputs of the classifier.
        input_size: Side of the input in pixels; by default the card's.

    Raises:
        ConfigurationError: The input size does not suit the architecture.
    """
    known = [_known(card, method, findings, input_size) for method in TUNING_METHODS.values()]
    there = [one for one in known if one is not None]
    return tuple(there) if len(there) == len(known) else counted(card, findings, input_size)


def _known(
    card: BackboneCard, method: Method, findings: int, input_size: int | None
) -> Offer | None:
    from core.models.tuning.apply import count_parameters

    spec = AdapterSpec(method=method.name)
    found = precomputed.tuned(card, spec, input_size)
    if found is None:
        return None
    count = count_parameters(card, spec, findings, input_size)
    return Offer(method, spec.filled(), found.targets, count)


@lru_cache(maxsize=32)
def counted(card: BackboneCard, findings: int, input_size: int | None = None) -> tuple[Offer, ...]:
    """The same of the model itself, built for each method; see ``offers``."""
    import torch

    from core.models.backbones.build import network
    from core.models.tuning import targets
    from core.models.tuning.apply import counted_parameters

    with torch.device("meta"):
        plain = network(card, findings, input_size or card.input_size)
    found = []
    for method in TUNING_METHODS.values():
        chosen = targets.fitting(plain, method.kind) if "targets" in method.options else ()
        spec = AdapterSpec(method=method.name)
        if "targets" in method.options and spec.targets not in chosen:
            # Where nothing fits, it is told of all layers why.
            spec = spec.model_copy(update={"targets": chosen[0] if chosen else "all"})
        try:
            count = counted_parameters(card, spec, findings, input_size)
        except ConfigurationError as error:
            found.append(Offer(method, spec.filled(), chosen, None, error.cause))
        else:
            found.append(Offer(method, spec.filled(), chosen, count))
    return tuple(found)


def defaults(method: Method) -> dict[str, Any]:
    """What each setting of a method is where nothing is given; words where the model decides."""
    filled = AdapterSpec(method=method.name).filled()
    told = {"dropout": "0.1 (embedded backbone: 0)"}
    values = {name: getattr(filled, name) for name in method.options}
    return {
        name: told.get(name, method.options[name].default) if value is None else value
        for name, value in values.items()
    }
