"""A foreign adapter put on a backbone, once it is known to have been made for it."""

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
from core.models.peft_files.read import ForeignAdapter
from core.models.peft_files.write import classifier
from core.models.tuning.apply import apply_method, classifier_parameters, merge_adapter

HEEDED = 1e-3
"""Largest difference, as a share of the logits, between an adapter at work and the same merged."""


def attach(model: nn.Module, adapter: ForeignAdapter) -> nn.Module:
    """Put a foreign adapter and its classifier on a backbone, in place.

    What the adapter holds is marked as trainable, as by ``adapters.apply``.

    Args:
        model: A timm classifier with the backbone's weights.
        adapter: What ``read`` gave.

    Returns:
        The same model.

    Raises:
        ModelError: The adapter was made for another backbone, for another number of findings, or
            without a classifier.
    """
    names = dict(model.named_modules())
    apart = {name.rpartition(".")[2] for name in adapter.layers.keys() - names.keys()}
    if apart & {"q_proj", "k_proj", "v_proj"}:
        qkv.split(model)
    for name, parts in adapter.layers.items():
        _check_misfit(model, name, parts)
    head = _classifier(model, adapter)
    if adapter.method == "ln-tuning":
        apply_method(model, AdapterSpec(method="ln-tuning"))
        for name, parts in adapter.layers.items():
            _fill(model.get_submodule(name).state_dict(), parts)
    else:
        apply_method(model, AdapterSpec(method="linear"))
        _inject(model, adapter)
    for name, parts in head.items():
        _fill(model.get_submodule(name).state_dict(), parts)
    for module in classifier_parameters(model):
        module.requires_grad_(True)
    return model


def check_supported_modules(model: nn.Module, example: Tensor) -> None:
    """Refuse an adapter past which the model reads its weights: it would change nothing.

    Args:
        model: What ``attach`` gave.
        example: Pixels [B, C, S, S].

    Raises:
        ModelError: The model answers as if the adapter were not there.
    """
    model.eval()
    merged = merge_adapter(copy.deepcopy(model)).eval()
    with torch.inference_mode():
        own, should = model(example), merged(example)
    if float((own - should).abs().max()) > HEEDED * max(1.0, float(should.abs().max())):
        raise ModelError(
            f"timm's {type(model).__name__} reads some of the adapted weights past the adapter, so "
            "that the adapter would have no effect.",
            "Adapt separate projections instead: timm.create_model(…, qkv_fused=False).",
        )


def _check_misfit(model: nn.Module, name: str, parts: Mapping[str, Tensor]) -> None:
    try:
        layer: Any = model.get_submodule(name)
    except AttributeError:
        raise _another(
            f"it adapts {name}, which {type(model).__name__} does not have here"
        ) from None
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor):
        raise _another(f"it adapts {name}, which has no weights here")
    for part, value in parts.items():
        wanted = _wanted(layer, part, value)
        if tuple(value.shape) not in wanted:
            raise _another(
                f"{part} of {name} has the shape {list(value.shape)}, this backbone needs "
                f"{' or '.join(str(list(one)) for one in wanted) or 'none'}"
            )


def _wanted(layer: Any, part: str, value: Tensor) -> list[tuple[int, ...]]:
    """Shapes that a tensor of an adapter may have on a layer; of its rank, whatever that is."""
    rows, columns, *kernel = (*layer.weight.shape, 1)[: max(2, layer.weight.ndim)]
    match part:
        case "lora_A":
            return [(len(value), columns, *kernel)]
        case "lora_B":
            return [(rows, value.shape[1], *(1 for _ in kernel))]
        case "lora_magnitude_vector":
            return [(1, rows, 1, 1)] if kernel else [(rows,)]
        case "ia3_l":
            return [] if kernel else [(rows, 1), (1, columns)]
        case _:
            place = layer.state_dict().get(part)
            return [] if place is None else [tuple(place.shape)]


def _classifier(model: nn.Module, adapter: ForeignAdapter) -> dict[str, dict[str, Tensor]]:
    """The classifier's tensors by module, once they are known to fit and to be complete."""
    found: dict[str, dict[str, Tensor]] = {}
    places = classifier(model)
    for name, value in adapter.rest.items():
        module, _, part = name.rpartition(".")
        if module not in places:
            raise ModelError(
                f"The adapter also holds {name}, which is not part of the classifier "
                f"({', '.join(places)}).",
                "Save with modules_to_save only what belongs to the classifier.",
            )
        place = model.get_submodule(module).state_dict().get(part)
        if place is None or place.shape[1:] != value.shape[1:]:
            raise _another(f"its {name} has the shape {list(value.shape)}")
        if place.shape != value.shape:
            raise ModelError(
                f"The adapter's classifier has {len(value)} outputs, the data set {len(place)} "
                "findings.",
                "Name the data set, with the findings, that it was trained on.",
            )
        found.setdefault(module, {})[part] = value
    head = places[-1]
    wanted = model.get_submodule(head).state_dict().keys()
    if found.get(head, {}).keys() != wanted:
        raise ModelError(
            f"The adapter holds no classifier ({', '.join(f'{head}.{one}' for one in wanted)}).",
            f'Save it with modules_to_save=["{head}"].',
        )
    return found


def _inject(model: nn.Module, adapter: ForeignAdapter) -> None:
    import peft
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    def whole(names: Iterable[str]) -> str:
        return "|".join(re.escape(name) for name in names)

    names = list(adapter.layers)
    if adapter.method == "ia3":
        inward = [name for name, parts in adapter.layers.items() if len(parts["ia3_l"]) == 1]
        config: Any = peft.IA3Config(target_modules=whole(names), feedforward_modules=whole(inward))
    else:
        ranks = {name: len(parts["lora_A"]) for name, parts in adapter.layers.items()}
        config = peft.LoraConfig(
            target_modules=whole(names),
            r=adapter.rank,
            rank_pattern=ranks,
            alpha_pattern={name: adapter.scales[name] * rank for name, rank in ranks.items()},
            use_dora=adapter.method == "dora",
        )
    PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type](model, config, "default")
    for name, parts in adapter.layers.items():
        layer: Any = model.get_submodule(name)
        for part, value in parts.items():
            place = getattr(layer, part)["default"]
            _fill({part: getattr(place, "weight", place)}, {part: value})


def _fill(places: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            places[name].copy_(value)


def _another(how: str) -> ModelError:
    return ModelError(
        f"The adapter was made for another backbone: {how}.",
        "Choose the backbone it was trained on: --backbone NAME, and --input-size if it had one.",
        field="model.backbone",
    )
