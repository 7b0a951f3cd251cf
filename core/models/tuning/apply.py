"""Applying a tuning method to a model: adapters, trainable parameters, saved state, merging.

The classifier (``fc_norm`` and head) trains with every method and is saved with it. This module
imports torch only where a model is used, so that precomputed parameter counts need no torch.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from core.config.run import AdapterSpec
from core.errors import ConfigurationError, ModelError
from core.models.tuning import precomputed
from core.models.tuning.method import Method, TrainingHook
from core.models.tuning.registry import tuning_method

if TYPE_CHECKING:
    from torch import Tensor, nn

    from core.models.backbones.card import BackboneCard
    from core.models.backbones.model_map import ModelMap


@dataclass(frozen=True)
class ParameterCount:
    """Number of parameters of an adapted model.

    Attributes:
        trainable: Parameters that train, classifier included.
        total: All parameters, adapter included.
    """

    trainable: int
    total: int

    @property
    def share(self) -> float:
        """Share of the parameters that train, 0 to 1."""
        return self.trainable / self.total


def apply_method(model: nn.Module, spec: AdapterSpec) -> nn.Module:
    """Apply a tuning method to a classifier, in place.

    Parameters that do not train are frozen, and frozen batch normalisation keeps its statistics.
    With most methods (``Method.starts_as_backbone``) the outputs in evaluation mode stay the same.

    Args:
        model: A timm classifier.
        spec: The method and its settings.

    Returns:
        The same model.

    Raises:
        ConfigurationError: The method is unknown, does not support a setting or the architecture,
            or its rank is larger than a layer.
    """
    from core.models.backbones.model_map import map_model

    method, spec = tuning_method(spec.method), spec.filled()
    _check_supported(method, spec)
    head = method.head or (tuning_method("attentive").head if spec.head == "attentive" else None)
    if head is not None:
        head(map_model(model))
    parts = map_model(model)
    added = method.prepare(parts, spec) if method.prepare is not None else set()
    model.requires_grad_(False)
    if method.config is not None:
        _inject(parts, method, spec)
    for name, parameter in model.named_parameters():
        if name in added:
            parameter.requires_grad_(True)
    if method.trains is not None:
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                parameter.requires_grad_(method.trains(name, module))
    # In closed form only the linear head is fitted; its features are those of the frozen fc_norm.
    trained = list(parts.classifier.values())[-1:] if method.closed_form else None
    for module in trained or parts.classifier.values():
        module.requires_grad_(True)
    _freeze_statistics(model)
    return model


def training_hook(model: nn.Module, spec: AdapterSpec, steps: int) -> TrainingHook | None:
    """The method's hook for a run of ``steps`` optimizer steps; None for most methods."""
    make = tuning_method(spec.method).hook
    return None if make is None else make(model, spec.filled(), steps)


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Tensors that a run has to save: trained parameters and batch statistics that change.

    They are detached, contiguous copies on the CPU.
    """
    return {name: value.detach().cpu().clone() for name, value in _saved_tensors(model).items()}


def load_trainable_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the result of ``trainable_state`` into a model that was built and adapted alike.

    Raises:
        ModelError: A name or a shape differs: the weights belong to another model or method.
    """
    import torch

    for prefix, module in model.named_modules():
        if hasattr(module, "adopt_shapes"):
            module.adopt_shapes(_within(prefix, state))
    tensors = _saved_tensors(model)
    differing = sorted(tensors.keys() ^ state.keys())
    differing += [
        name for name in tensors if name in state and tensors[name].shape != state[name].shape
    ]
    if differing:
        raise ModelError(
            f"The weights do not fit the model: {len(differing)} tensors differ. The first is "
            f"{differing[0]}.",
            "Use the backbone, method, rank and targets that they were trained with.",
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(state[name])


def parameter_groups(
    model: nn.Module,
    *,
    lr: float | None,
    weight_decay: float | None,
    layer_decay: float | None,
    spec: AdapterSpec | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for the optimizer: layer-wise learning-rate decay, no decay of vectors.

    Layers are numbered as in BEiT (Bao et al. 2022): the embeddings are layer 0, block i is layer
    i + 1, and what follows the last block is the last layer, which has the full learning rate.

    Args:
        model: An adapted model.
        lr: Learning rate of the last layer; None counts as 0.
        weight_decay: Weight decay of matrices; one-dimensional parameters, ``pos_embed`` and
            ``cls_token`` have none. None counts as 0.
        layer_decay: Factor on the learning rate from each layer to the layer before it; None
            counts as 1.
        spec: The method and its settings, for methods that scale the rate of some parameters.

    Returns:
        One group for each combination of layer, weight decay and rate, with the keys ``params``,
        ``lr``, ``weight_decay``, ``lr_scale`` and ``name``.
    """
    from core.models.backbones.model_map import block_numbers

    numbers = block_numbers(model)
    last = max(numbers.values(), default=0)
    rates = None if spec is None else tuning_method(spec.method).rates
    filled = None if spec is None else spec.filled()
    without_decay = {"pos_embed", "cls_token"} | set(
        model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()  # type: ignore[operator]
    )
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        layer = numbers.get(name, last)
        no_decay = (
            parameter.ndim <= 1 or name in without_decay or name.rsplit(".", 1)[-1] in without_decay
        )
        factor = 1.0 if rates is None or filled is None else rates(filled, name)
        key = f"layer {layer + 1}" + (", no decay" if no_decay else "")
        key += f", {factor:g} times the rate" if factor != 1 else ""
        scale = (layer_decay or 1.0) ** (last - layer) * factor
        group = groups.setdefault(
            key,
            {
                "params": [],
                "lr": (lr or 0.0) * scale,
                "weight_decay": 0.0 if no_decay else weight_decay or 0.0,
                "lr_scale": scale,
                "name": key,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def count_parameters(
    card: BackboneCard, spec: AdapterSpec, findings: int, input_size: int | None = None
) -> ParameterCount:
    """Count the parameters of an adapted backbone; precomputed counts need no torch.

    Args:
        card: The backbone.
        spec: The method and its settings.
        findings: Number of outputs of the classifier.
        input_size: Side of the input in pixels; by default the card's.

    Raises:
        ConfigurationError: As ``apply_method``, or the input size does not suit the architecture.
    """
    known = precomputed.find(card, spec, input_size)
    if known is not None:
        return ParameterCount(known.trainable.at(findings), known.total.at(findings))
    return count_in_model(card, spec, findings, input_size)


@lru_cache(maxsize=256)
def count_in_model(
    card: BackboneCard, spec: AdapterSpec, findings: int, input_size: int | None = None
) -> ParameterCount:
    """Count the parameters in the model, built on the meta device; see ``count_parameters``."""
    import torch

    from core.models.backbones.build import network

    make = tuning_method(spec.method).network
    with torch.device("meta"):
        if make is not None:
            _check_supported(tuning_method(spec.method), spec)
            model = make(card, findings)
        else:
            model = apply_method(network(card, findings, input_size or card.input_size), spec)
    each = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return ParameterCount(sum(n for n, trains in each if trains), sum(n for n, _ in each))


def merge_adapter(model: nn.Module) -> nn.Module:
    """Merge the adapters into the weights, in place: timm's layout, the same outputs, all frozen.

    Raises:
        ModelError: The method's parameters are not weights of the backbone.
    """
    from core.models.backbones import qkv
    from core.models.backbones.model_map import map_model
    from core.models.tuning.ssf import merge_scales_and_shifts
    from core.models.tuning.vpt import has_prompts

    if has_prompts(model):
        raise ModelError(
            "Visual prompts cannot be merged: they are inputs of the blocks, not weights.",
            "Keep the run as it is, or use a method that can be merged, such as lora.",
        )
    parts = map_model(model)
    for name, layer in parts.adapted_layers.items():
        layer.merge(safe_merge=True)
        model.set_submodule(name, layer.get_base_layer())
    if parts.adapted_layers:
        del model.peft_config
    merge_scales_and_shifts(model)
    qkv.fuse(parts)
    return model.requires_grad_(False)


def _check_supported(method: Method, spec: AdapterSpec) -> None:
    unsupported = [name for name in spec.own() if name not in method.options]
    if unsupported:
        supported = ", ".join(name.replace("_", "-") for name in method.options)
        raise ConfigurationError(
            f"{method.title} has no setting {unsupported[0].replace('_', '-')}.",
            f"It supports {supported}." if supported else "It has no settings.",
            field=f"adapter.{unsupported[0]}",
        )


def _inject(parts: ModelMap, method: Method, spec: AdapterSpec) -> None:
    """Add the method's peft adapter to the model."""
    import peft
    import torch
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    from core.models.tuning import layer_sizes, targets
    from core.models.tuning.dropout import use_byte_dropout

    model, layers = parts.model, targets.target_layers(parts, method, spec)
    arguments = method.arguments(spec, layers)
    if "alpha" in method.options:
        layer_sizes.check_rank(layers, spec.rank)
    if "initial_rank" in method.options:
        _check_initial_rank(spec)
        layer_sizes.check_rank(layers, spec.initial_rank or 0, "adapter.initial_rank")
    if "vector_length" in arguments:
        layer_sizes.check_vector_length(layers, arguments["vector_length"])
    if any(parameter.is_meta for parameter in model.parameters()):
        arguments.pop("init_lora_weights", None)  # meta tensors have no values to decompose
    config = getattr(peft, str(method.config))(target_modules=list(layers), **arguments)
    # Some layers of peft cannot be created on the meta device; peft then moves them there.
    with torch.device("cpu"):
        # peft's tuner changes the model in place; the wrapper around it is not needed.
        PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type](model, config, "default")
    for name in layers:
        use_byte_dropout(model.get_submodule(name))
    if method.freezes is not None:
        for name, parameter in model.named_parameters():
            if method.freezes in name:
                parameter.requires_grad_(False)


def _check_initial_rank(spec: AdapterSpec) -> None:
    if (spec.initial_rank or 0) <= spec.rank:
        raise ConfigurationError(
            f"AdaLoRA reduces ranks, but the initial rank is {spec.initial_rank} and the final "
            f"rank {spec.rank}.",
            f"Choose an initial rank of {spec.rank + 1} or more.",
            field="adapter.initial_rank",
        )


def _saved_tensors(model: nn.Module) -> dict[str, Tensor]:
    # A frozen random lora_A is saved too, so that it does not depend on a random generator.
    tensors: dict[str, Tensor] = {
        n: p for n, p in model.named_parameters() if p.requires_grad or ".lora_A." in n
    }
    for prefix, module in model.named_modules():
        if _is_batch_norm(module) and _trains(module):
            tensors |= {f"{prefix}.{name}": value for name, value in module.named_buffers()}
        if getattr(module, "saves_buffers", False):
            tensors |= {f"{prefix}.{name}": value for name, value in module.named_buffers()}
    return tensors


def _within(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a module, by their names in it."""
    start = f"{prefix}."
    return {name.removeprefix(start): v for name, v in state.items() if name.startswith(start)}


def _freeze_statistics(model: nn.Module) -> None:
    """Keep frozen batch normalisation in evaluation mode, also after ``model.train()``."""
    for module in model.modules():
        if _is_batch_norm(module) and not _trains(module):
            module.eval()
            module.train = types.MethodType(_keep_mode, module)  # type: ignore[method-assign]


def _keep_mode(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def _is_batch_norm(module: nn.Module) -> bool:
    return hasattr(module, "running_mean") and hasattr(module, "num_batches_tracked")


def _trains(module: Any) -> bool:
    return module.weight is not None and bool(module.weight.requires_grad)
