"""Attaching an imported adapter to a backbone, after checking that it was made for it."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from core.config.run import AdapterSpec
from core.errors import ModelError
from core.models.backbones import qkv
from core.models.backbones.model_map import ModelMap, map_model
from core.models.peft_files.read import ForeignAdapter
from core.models.peft_files.write import classifier_names
from core.models.tuning.apply import apply_method, merge_adapter

TOLERANCE = 1e-3
"""Largest difference, as a share of the logits, between the active and the merged adapter."""


def attach_adapter(model: nn.Module, adapter: ForeignAdapter) -> nn.Module:
    """Attach an imported adapter and its classifier to a backbone, in place.

    The parameters of the adapter are marked as trainable, as by ``apply_method``.

    Raises:
        ModelError: The adapter was made for another backbone or another number of findings, or
            has no classifier.
    """
    parts = map_model(model)
    missing = {name.rpartition(".")[2] for name in adapter.layers.keys() - parts.modules.keys()}
    if missing & {"q_proj", "k_proj", "v_proj"}:
        qkv.split(parts)
    for name, tensors in adapter.layers.items():
        _check_layer(model, name, tensors)
    head = _classifier_tensors(parts, adapter)
    if adapter.method == "ln-tuning":
        apply_method(model, AdapterSpec(method="ln-tuning"))
        for name, tensors in adapter.layers.items():
            _copy(tensors, model.get_submodule(name).state_dict())
    else:
        apply_method(model, AdapterSpec(method="linear"))
        _inject(model, adapter)
    for name, tensors in head.items():
        _copy(tensors, model.get_submodule(name).state_dict())
    for module in parts.classifier.values():
        module.requires_grad_(True)
    return model


def check_effect(model: nn.Module, example: Tensor) -> None:
    """Check that an attached adapter has an effect: some models do not call the adapted layers.

    Args:
        model: Result of ``attach_adapter``.
        example: Pixels [B, C, S, S].

    Raises:
        ModelError: The outputs differ from those with the adapter merged into the weights.
    """
    model.eval()
    merged = merge_adapter(copy.deepcopy(model)).eval()
    with torch.inference_mode():
        active, expected = model(example), merged(example)
    limit = TOLERANCE * max(1.0, float(expected.abs().max()))
    if float((active - expected).abs().max()) > limit:
        raise ModelError(
            f"timm's {type(model).__name__} does not call some of the adapted layers, so the "
            "adapter would have no effect.",
            "Adapt separate projections instead: timm.create_model(…, qkv_fused=False).",
        )


def _check_layer(model: nn.Module, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Check that the adapter's tensors of a layer fit the backbone's layer."""
    try:
        layer: Any = model.get_submodule(name)
    except AttributeError:
        raise _wrong_backbone(
            f"it adapts {name}, which {type(model).__name__} does not have"
        ) from None
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor):
        raise _wrong_backbone(f"it adapts {name}, which has no weights in this backbone")
    for kind, value in tensors.items():
        shapes = _allowed_shapes(layer, kind, value)
        if tuple(value.shape) not in shapes:
            raise _wrong_backbone(
                f"{kind} of {name} has the shape {list(value.shape)}, this backbone needs "
                f"{' or '.join(str(list(shape)) for shape in shapes) or 'none'}"
            )


def _allowed_shapes(layer: Any, kind: str, value: Tensor) -> list[tuple[int, ...]]:
    """Shapes that a tensor of an adapter can have on a layer, for the rank of the tensor."""
    rows, columns, *kernel = (*layer.weight.shape, 1)[: max(2, layer.weight.ndim)]
    match kind:
        case "lora_A":
            return [(len(value), columns, *kernel)]
        case "lora_B":
            return [(rows, value.shape[1], *(1 for _ in kernel))]
        case "lora_magnitude_vector":
            return [(1, rows, 1, 1)] if kernel else [(rows,)]
        case "ia3_l":
            return [] if kernel else [(rows, 1), (1, columns)]
        case _:
            tensor = layer.state_dict().get(kind)
            return [] if tensor is None else [tuple(tensor.shape)]


def _classifier_tensors(parts: ModelMap, adapter: ForeignAdapter) -> dict[str, dict[str, Tensor]]:
    """The classifier's tensors by module, after checking that they fit and are complete."""
    tensors: dict[str, dict[str, Tensor]] = {}
    modules = classifier_names(parts)
    for name, value in adapter.rest.items():
        module, _, kind = name.rpartition(".")
        if module not in modules:
            raise ModelError(
                f"The adapter also contains {name}, which is not part of the classifier "
                f"({', '.join(modules)}).",
                "List only modules of the classifier in modules_to_save.",
            )
        tensor = parts.modules[module].state_dict().get(kind)
        if tensor is None or tensor.shape[1:] != value.shape[1:]:
            raise _wrong_backbone(f"its {name} has the shape {list(value.shape)}")
        if tensor.shape != value.shape:
            raise ModelError(
                f"The adapter's classifier has {len(value)} outputs, the data set {len(tensor)} "
                "findings.",
                "Give the data set, with the findings, that the adapter was trained on.",
            )
        tensors.setdefault(module, {})[kind] = value
    head = modules[-1]
    needed = parts.modules[head].state_dict().keys()
    if tensors.get(head, {}).keys() != needed:
        raise ModelError(
            f"The adapter contains no classifier ({', '.join(f'{head}.{k}' for k in needed)}).",
            f'Save it with modules_to_save=["{head}"].',
        )
    return tensors


def _inject(model: nn.Module, adapter: ForeignAdapter) -> None:
    import peft
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    def pattern(names: Iterable[str]) -> str:
        return "|".join(re.escape(name) for name in names)

    names, layers = list(adapter.layers), adapter.layers.items()
    if adapter.method == "ia3":
        # A scale of the input has the shape (1, columns), a scale of the output (rows, 1).
        inputs = [name for name, tensors in layers if len(tensors["ia3_l"]) == 1]
        config: Any = peft.IA3Config(
            target_modules=pattern(names), feedforward_modules=pattern(inputs)
        )
    else:
        ranks = {name: len(tensors["lora_A"]) for name, tensors in layers}
        config = peft.LoraConfig(
            target_modules=pattern(names),
            r=adapter.rank,
            rank_pattern=ranks,
            alpha_pattern={name: adapter.scales[name] * rank for name, rank in ranks.items()},
            use_dora=adapter.method == "dora",
        )
    PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type](model, config, "default")
    for name, tensors in layers:
        layer: Any = model.get_submodule(name)
        for kind, value in tensors.items():
            parameter = getattr(layer, kind)["default"]
            _copy({kind: value}, {kind: getattr(parameter, "weight", parameter)})


def _copy(values: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)


def _wrong_backbone(difference: str) -> ModelError:
    return ModelError(
        f"The adapter was made for another backbone: {difference}.",
        "Choose the backbone it was trained on: --backbone NAME, and --input-size if it was set.",
        field="model.backbone",
    )
