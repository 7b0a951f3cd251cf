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

from core.config.run import AdapterSpec
from core.errors import ConfigurationError, ModelError
from core.models.backbones import head
from core.models.tuning import precomputed
from core.models.tuning.registry import Method, TrainingHook, tuning_method

if TYPE_CHECKING:
    from torch import Tensor, nn

    from core.models.backbones.registry import BackboneCard


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


def apply_method(model: nn.Module, spec: AdapterSpec) -> nn.Module:
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
    chosen, spec = tuning_method(spec.method), spec.filled()
    _check_supported(chosen, spec)
    own = chosen.prepare(model, spec) if chosen.prepare is not None else set()
    model.requires_grad_(False)
    if chosen.config is not None:
        _inject(model, chosen, spec)
    for name, parameter in model.named_parameters():
        if name in own:
            parameter.requires_grad_(True)
    if chosen.trains is not None:
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                parameter.requires_grad_(chosen.trains(name, module))
    for module in head.parts(model):
        module.requires_grad_(True)
    _hold_statistics(model)
    return model


def classifier_parameters(model: nn.Module) -> list[nn.Module]:
    """What stands behind the features: ``fc_norm``, where there is one, and the head."""
    return head.parts(model)


def training_hook(model: nn.Module, spec: AdapterSpec, steps: int) -> TrainingHook | None:
    """What a method does beside the training loop; None for most of them.

    Args:
        model: The adapted model.
        spec: The method and its options.
        steps: Optimizer steps of the whole run.
    """
    makes = tuning_method(spec.method).companion
    return None if makes is None else makes(model, spec.filled(), steps)


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
    model: nn.Module,
    *,
    lr: float | None,
    weight_decay: float | None,
    layer_decay: float | None,
    spec: AdapterSpec | None = None,
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
        spec: The method and its options, where it has rates of its own for some parameters.

    Returns:
        One group for each layer, decay and rate: ``params``, ``lr``, ``weight_decay``,
        ``lr_scale``, ``name``.
    """
    from core.models.backbones import blocks

    ids = blocks.of_parameters(model)
    last = max(ids.values(), default=0)
    rates = None if spec is None else tuning_method(spec.method).rates
    filled = None if spec is None else spec.filled()
    spared = {"pos_embed", "cls_token"} | set(
        model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()  # type: ignore[operator]
    )
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        layer = ids.get(name, last)
        bare = parameter.ndim <= 1 or name in spared or name.rsplit(".", 1)[-1] in spared
        factor = 1.0 if rates is None or filled is None else rates(filled, name)
        key = f"layer {layer + 1}" + (", no decay" if bare else "")
        key += f", {factor:g} times the rate" if factor != 1 else ""
        scale = (layer_decay or 1.0) ** (last - layer) * factor
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


def count_parameters(
    card: BackboneCard, spec: AdapterSpec, findings: int, input_size: int | None = None
) -> ParameterCount:
    """Count the parameters of an adapted backbone, without loading torch where they are known.

    Raises:
        ConfigurationError: As ``apply``, or the input size does not suit the architecture.
    """
    known = precomputed.tuned(card, spec, input_size)
    if known is not None:
        return ParameterCount(known.trainable.at(findings), known.total.at(findings))
    return counted_parameters(card, spec, findings, input_size)


@lru_cache(maxsize=256)
def counted_parameters(
    card: BackboneCard, spec: AdapterSpec, findings: int, input_size: int | None = None
) -> ParameterCount:
    """The same of the model itself, built without allocating it; arguments as for ``count``."""
    import torch

    from core.models.backbones.build import network

    with torch.device("meta"):
        model = network(card, findings, input_size or card.input_size)
        apply_method(model, spec)
    each = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return ParameterCount(sum(n for n, trains in each if trains), sum(n for n, _ in each))


def merge_adapter(model: nn.Module) -> nn.Module:
    """Work the adapters into the weights, in place: timm's own layout, the same outputs.

    Returns:
        The same model, without adapters, all of it frozen.

    Raises:
        ModelError: The method adds something that is no weight of the backbone.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    from core.models.backbones import qkv
    from core.models.tuning import ssf, vpt

    if vpt.has(model):
        raise ModelError(
            "Visual prompts cannot be merged: they are inputs of the blocks, not weights.",
            "Keep the run as it is, or tune with a method that can be merged, such as lora.",
        )
    adapted = [(name, m) for name, m in model.named_modules() if isinstance(m, BaseTunerLayer)]
    for name, layer in adapted:
        layer.merge(safe_merge=True)
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer.get_base_layer())
    if adapted:
        del model.peft_config
    ssf.work_in(model)
    qkv.fuse(model)
    return model.requires_grad_(False)


def _check_supported(chosen: Method, spec: AdapterSpec) -> None:
    spare = [name for name in spec.own() if name not in chosen.options]
    if spare:
        heeded = ", ".join(name.replace("_", "-") for name in chosen.options)
        raise ConfigurationError(
            f"{chosen.title} does not know the setting {spare[0].replace('_', '-')}.",
            f"It heeds {heeded}." if heeded else "It has no settings.",
            field=f"adapter.{spare[0]}",
        )


def _inject(model: nn.Module, chosen: Method, spec: AdapterSpec) -> None:
    import peft
    import torch
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    from core.models.tuning import dropout, layer_sizes, targets

    layers = targets.layers(model, chosen, spec)
    arguments = chosen.arguments(spec, layers)
    if "alpha" in chosen.options:
        layer_sizes.require_rank(layers, spec.rank)
    if "initial_rank" in chosen.options:
        _require_room(spec)
        layer_sizes.require_rank(layers, spec.initial_rank or 0, "adapter.initial_rank")
    if "vector_length" in arguments:
        layer_sizes.require_vector_length(layers, arguments["vector_length"])
    if any(parameter.is_meta for parameter in model.parameters()):
        arguments.pop("init_lora_weights", None)  # what is not there has no singular vectors
    config = getattr(peft, str(chosen.config))(target_modules=list(layers), **arguments)
    # Some of peft's layers cannot be made without memory; they then follow their layer to "meta".
    with torch.device("cpu"):
        # peft's tuner changes the model in place; the wrapper around it is not needed.
        PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type](model, config, "default")
    for name in layers:
        dropout.lighten(model.get_submodule(name))
    if chosen.freezes is not None:
        for name, parameter in model.named_parameters():
            if chosen.freezes in name:
                parameter.requires_grad_(False)


def _require_room(spec: AdapterSpec) -> None:
    if (spec.initial_rank or 0) <= spec.rank:
        raise ConfigurationError(
            f"AdaLoRA shrinks ranks, but starts at {spec.initial_rank} and ends at {spec.rank}.",
            f"Choose a rank at the start of {spec.rank + 1} or more.",
            field="adapter.initial_rank",
        )


def _changing(model: nn.Module) -> dict[str, Tensor]:
    # An A that stays as it was drawn is saved too, so that no generator has to draw it again.
    found: dict[str, Tensor] = {
        n: p for n, p in model.named_parameters() if p.requires_grad or ".lora_A." in n
    }
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
