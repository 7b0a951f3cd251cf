"""Every way to tune a backbone: what trains, how much of the model that is, and what is saved.

The classifier (``fc_norm`` and head) trains with every method and is saved with it. Nothing here
imports torch before a model is at hand, so that the methods can be listed at once.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from core.errors import ModelError
from core.models.methods import METHODS, Method, method
from core.spec import AdapterSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from core.models.catalogue import BackboneCard

__all__ = [
    "METHODS",
    "Method",
    "ParameterCount",
    "apply",
    "classifier",
    "count",
    "load_trainable_state",
    "merge",
    "method",
    "parameter_groups",
    "trainable_state",
]


@dataclass(frozen=True)
class ParameterCount:
    """How much of a model trains.

    Attributes:
        trainable: Parameters that train, classifier included.
        total: Parameters of the adapted model.
    """

    trainable: int
    total: int

    @property
    def share(self) -> float:
        """Trainable share of the parameters, 0 to 1."""
        return self.trainable / self.total


def apply(model: nn.Module, spec: AdapterSpec) -> nn.Module:
    """Prepare a classifier for one way of tuning, in place.

    Everything that does not train is frozen; normalisation by batch keeps its statistics there.
    The outputs do not change, except for dropout in training.

    Args:
        model: A timm classifier.
        spec: The method and its options.

    Returns:
        The same model.

    Raises:
        ConfigurationError: The method is unknown, does not suit the architecture, or its rank is
            larger than a layer.
    """
    chosen = method(spec.method)
    model.requires_grad_(False)
    if chosen.config is not None:
        _inject(model, chosen, spec)
    if chosen.trains is not None:
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                parameter.requires_grad_(chosen.trains(name, module))
    for module in classifier(model):
        module.requires_grad_(True)
    _hold_statistics(model)
    return model


def classifier(model: nn.Module) -> list[nn.Module]:
    """What stands behind the features: ``fc_norm``, where there is one, and the head."""
    norm = getattr(model, "fc_norm", None)
    head = model.get_classifier()  # type: ignore[operator]
    return [module for module in (norm, head) if module is not None]


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """All that a run has to save: what trains, classifier included, and statistics that change.

    Returns:
        Tensors by name, detached, contiguous, on the CPU; copies where the model is there too.
    """
    return {name: value.detach().cpu().clone() for name, value in _changing(model).items()}


def load_trainable_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put back what ``trainable_state`` gave, into a model built and adapted alike.

    Raises:
        ModelError: A name or a shape does not fit: the weights belong to another model or method.
    """
    import torch

    places = _changing(model)
    apart = sorted(places.keys() ^ state.keys())
    apart += [name for name in places if name in state and places[name].shape != state[name].shape]
    if apart:
        raise ModelError(
            f"The weights do not fit the model: {len(apart)} tensors differ, first {apart[0]}.",
            "Use the backbone, method, rank and targets they were trained with.",
        )
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(state[name])


def parameter_groups(
    model: nn.Module, *, lr: float | None, weight_decay: float | None, layer_decay: float | None
) -> list[dict[str, Any]]:
    """Groups for the optimizer: smaller rates for earlier layers, no decay of vectors.

    Layers are numbered as in BEiT (Bao et al. 2022): the embeddings are 0, block i is i + 1, what
    follows the last block comes last and has the full rate.

    Args:
        model: An adapted model.
        lr: Rate of the last layer; None counts as 0.
        weight_decay: Decay of matrices; none for one-dimensional parameters, ``pos_embed`` and
            ``cls_token``. None counts as 0.
        layer_decay: Factor of the rate from each layer to the one before; None counts as 1.

    Returns:
        One group for each layer and decay: ``params``, ``lr``, ``weight_decay``, ``lr_scale``,
        ``name``.
    """
    from timm.models import group_parameters

    ids: dict[str, int] = {}
    if hasattr(model, "group_matcher"):
        ids = group_parameters(model, model.group_matcher(coarse=False), reverse=True)  # type: ignore[operator]
    last = max(ids.values(), default=0)
    spared = {"pos_embed", "cls_token"} | set(
        model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()  # type: ignore[operator]
    )
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        layer = ids.get(name, last)
        bare = parameter.ndim <= 1 or name in spared or name.rsplit(".", 1)[-1] in spared
        key = f"layer {layer}" + (", no decay" if bare else "")
        scale = (layer_decay or 1.0) ** (last - layer)
        group = groups.setdefault(
            key,
            {
                "params": [],
                "lr": (lr or 0.0) * scale,
                "weight_decay": 0.0 if bare else weight_decay or 0.0,
                "lr_scale": scale,
                "name": key,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


@lru_cache(maxsize=256)
def count(
    card: BackboneCard, spec: AdapterSpec, findings: int, input_size: int | None = None
) -> ParameterCount:
    """Count the parameters of an adapted backbone without allocating them.

    Raises:
        ConfigurationError: As ``apply``, or the input size does not suit the architecture.
    """
    import torch

    from core.models import backbones

    with torch.device("meta"):
        model = backbones.network(card, findings, input_size or card.input_size)
        apply(model, spec)
    each = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return ParameterCount(sum(n for n, trains in each if trains), sum(n for n, _ in each))


def merge(model: nn.Module) -> nn.Module:
    """Work the adapters into the weights, in place: timm's own layout, the same outputs.

    Returns:
        The same model, without adapters, all of it frozen.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    from core.models import attention

    adapted = [(name, m) for name, m in model.named_modules() if isinstance(m, BaseTunerLayer)]
    for name, layer in adapted:
        layer.merge(safe_merge=True)
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer.get_base_layer())
    if adapted:
        del model.peft_config
    attention.fuse(model)
    return model.requires_grad_(False)


def _inject(model: nn.Module, chosen: Method, spec: AdapterSpec) -> None:
    import peft
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    from core.models import targets

    names = targets.layers(model, chosen.parts or targets.PARTS[spec.targets], chosen.title)
    arguments = chosen.arguments(spec)
    if "r" in arguments and chosen.name != "vera":
        targets.require_rank(model, names, spec.rank)
    if chosen.name == "ia3":
        # It scales what enters the MLP's second layer; its first layer is left as it is.
        names = [name for name in names if not name.rpartition(".")[2].startswith("fc1")]
        arguments["feedforward_modules"] = [n for n in names if n.endswith("fc2")]
    config = getattr(peft, str(chosen.config))(target_modules=names, **arguments)
    # peft's tuner changes the model in place; the wrapper around it is not needed.
    PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type](model, config, "default")


def _changing(model: nn.Module) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
    for prefix, module in model.named_modules():
        if _batch_norm(module) and _adapts(module):
            found |= {f"{prefix}.{name}": value for name, value in module.named_buffers()}
    return found


def _hold_statistics(model: nn.Module) -> None:
    """Keep frozen batch normalisation in evaluation mode, whatever ``model.train()`` says."""
    for module in model.modules():
        if _batch_norm(module) and not _adapts(module):
            module.eval()
            module.train = types.MethodType(_stay, module)  # type: ignore[method-assign]


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def _batch_norm(module: nn.Module) -> bool:
    return hasattr(module, "running_mean") and hasattr(module, "num_batches_tracked")


def _adapts(module: Any) -> bool:
    return module.weight is not None and bool(module.weight.requires_grad)
