"""Writing a tuned model as a peft adapter for a plain timm model.

This software adapts query, key and value as separate layers, while a plain timm model has one fused
matrix. The adapters of the three become one adapter of that matrix: their matrices A are stacked,
and each B fills a block of its rows, so that query, key and value still share nothing.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.config.run import AdapterSpec
from core.errors import ModelError
from core.models.backbones import qkv
from core.models.backbones.model_map import ModelMap, map_model
from core.models.backbones.qkv import SplitProjection
from core.models.tuning.registry import tuning_method

PARTS = ("q", "k", "v")
TAIL = 1e-6
"""Share of an update's Frobenius norm that its low-rank factors may leave out."""
REMEDY = "Export its timm weights instead (format merged)."


@dataclass(frozen=True)
class Update:
    """The low-rank update of a layer.

    Attributes:
        down: Matrix A, of the shape of the layer's weight but with one row per rank.
        up: Matrix B, of shape [rows, rank], multiplied by the scale.
        magnitude: DoRA's magnitude of each row; None for other methods.
    """

    down: Tensor
    up: Tensor
    magnitude: Tensor | None = None


def write_adapter(
    folder: Path, model: nn.Module, plain: nn.Module, spec: AdapterSpec, architecture: str
) -> None:
    """Write a tuned model's adapter and classifier as ``save_pretrained`` of peft does.

    Args:
        folder: Folder of the adapter.
        model: The tuned model.
        plain: The same backbone with the weights before tuning, after ``split_as``; it is changed.
        spec: The method and settings of ``model``.
        architecture: timm's name of the architecture, for the adapter's configuration.

    Raises:
        ModelError: The method has no adapter that peft supports.
    """
    method = tuning_method(spec.method)
    tuned, target = map_model(model), map_model(plain)
    classifier = classifier_states(model, plain)
    if method.name == "ln-tuning":
        wrapped = _with_norms(tuned, target)
    elif method.config is None:
        raise ModelError(
            f"{method.title} has no adapter that peft supports: it trains parameters of the model "
            "itself.",
            REMEDY,
        )
    elif method.name == "ia3":
        wrapped = _with_scales(tuned, target)
    else:
        updates = _trained_updates(tuned)
        if updates is None:
            updates = _factored_updates(tuned, target)
        wrapped = _with_low_rank(updates, target)
    _save(folder, wrapped, classifier, architecture)


def low_rank_updates(model: nn.Module, plain: nn.Module) -> dict[str, Update]:
    """The update B·A of each layer of a tuned model, without magnitudes.

    Args:
        model: The tuned model; its method changes weights only.
        plain: The same backbone with the weights before tuning, after ``split_as``.

    Returns:
        Updates by the layer's name in ``plain``.
    """
    tuned = map_model(model)
    updates = _trained_updates(tuned)
    if updates is None or any(update.magnitude is not None for update in updates.values()):
        return _factored_updates(tuned, map_model(plain))
    return updates


def mean_update(updates: Sequence[Update | None]) -> Update:
    """The mean of updates B·A, as one update of the sum of their ranks.

    Args:
        updates: Updates of one layer without magnitudes; None for a model that does not adapt it.
    """
    present = [update for update in updates if update is not None]
    down = torch.cat([update.down for update in present])
    up = torch.cat([update.up for update in present], dim=1) / len(updates)
    if len(down) <= min(len(up), down[0].numel()):
        return Update(down, up)
    change = up.double() @ down.flatten(1).double()
    left, values, right = torch.linalg.svd(change, full_matrices=False)
    return Update(*_factors(left, values, right, down.shape[1:]))


def write_updates(
    folder: Path,
    plain: nn.Module,
    updates: Mapping[str, Update],
    classifier: Mapping[str, Mapping[str, Tensor]],
    architecture: str,
) -> None:
    """Write updates and a classifier as a LoRA adapter, as ``save_pretrained`` of peft does.

    Args:
        folder: Folder of the adapter.
        plain: The backbone with a classifier; it is changed.
        updates: Updates by layer.
        classifier: Tensors of the classifier's modules, as of ``classifier_states``.
        architecture: timm's name of the architecture, for the adapter's configuration.
    """
    _save(folder, _with_low_rank(updates, map_model(plain)), classifier, architecture)


def classifier_states(model: nn.Module, plain: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Tensors of the classifier's modules of a tuned model, by their names in ``plain``."""
    return {
        name: dict(model.get_submodule(name).state_dict())
        for name in classifier_names(map_model(plain))
    }


def classifier_names(parts: ModelMap) -> list[str]:
    """Names of the classifier's modules that have parameters."""
    return [name for name, module in parts.classifier.items() if list(module.parameters())]


def split_as(model: nn.Module, plain: nn.Module) -> dict[str, Any]:
    """Split query, key and value of a plain model where timm's own model supports it.

    timm's EVA does not call its fused layer, so an adapter on it has no effect, but it supports
    separate projections.

    Args:
        model: The tuned model.
        plain: A plain model of the same architecture; it is changed if ``model`` was split.

    Returns:
        The additional arguments with which ``timm.create_model`` builds such a model.
    """
    attentions = map_model(model).attentions.values()
    if not any(getattr(module, "was_fused", False) for module in attentions):
        return {}
    qkv.split(map_model(plain))
    return {"qkv_fused": False}


def _save(
    folder: Path, wrapped: Any, classifier: Mapping[str, Mapping[str, Tensor]], architecture: str
) -> None:
    for name, state in classifier.items():
        saved = wrapped.base_model.model.get_submodule(name).modules_to_save["default"]
        saved.load_state_dict(state)
    wrapped.peft_config["default"].base_model_name_or_path = architecture
    wrapped.save_pretrained(str(folder), save_embedding_layers=False)


def _with_low_rank(updates: Mapping[str, Update], plain: ModelMap) -> Any:
    """Add low-rank updates to a plain model, as LoRA."""
    import peft

    ranks = {name: len(update.down) for name, update in updates.items()}
    highest = max(ranks.values())
    others = {name: rank for name, rank in ranks.items() if rank != highest}
    config = peft.LoraConfig(
        r=highest,
        lora_alpha=highest,  # B is already multiplied by the scale alpha / r
        rank_pattern=others,
        alpha_pattern=others,
        target_modules=list(updates),
        modules_to_save=classifier_names(plain),
        use_dora=any(update.magnitude is not None for update in updates.values()),
    )
    wrapped = peft.get_peft_model(plain.model, config)
    with torch.no_grad():
        for name, update in updates.items():
            layer = wrapped.base_model.model.get_submodule(name)
            down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            down.copy_(update.down.reshape(down.shape))
            up.copy_(update.up.reshape(up.shape))
            if update.magnitude is not None:
                layer.lora_magnitude_vector["default"].weight.copy_(update.magnitude)
    return wrapped


def _trained_updates(tuned: ModelMap) -> dict[str, Update] | None:
    """Updates of LoRA as trained; None if they are not B·A on the initial weights."""
    from peft.tuners.adalora.layer import AdaLoraLayer
    from peft.tuners.lora import LoraLayer

    is_lora = all(
        isinstance(layer, LoraLayer) and not isinstance(layer, AdaLoraLayer)
        for layer in tuned.adapted_layers.values()
    )
    if not is_lora or _changes_initial_weights(tuned.model):
        return None
    updates = {}
    for name in _adapted_names(tuned):
        layer = tuned.modules[name]
        updates[name] = _joined(layer) if _is_split(layer) else _of_lora(layer)
    return updates


def _joined(projection: Any) -> Update:
    """One update of a fused matrix from the updates of its parts; other parts stay unchanged."""
    layers = [getattr(projection, part) for part in PARTS]
    updates = [_of_lora(layer) if hasattr(layer, "base_layer") else None for layer in layers]
    present = [update for update in updates if update is not None]
    weights = [getattr(layer, "base_layer", layer).weight for layer in layers]
    up = torch.zeros(sum(map(len, weights)), sum(len(update.down) for update in present))
    row = column = 0
    for update, weight in zip(updates, weights, strict=True):
        if update is not None:
            rank = len(update.down)
            up[row : row + len(weight), column : column + rank] = update.up
            column += rank
        row += len(weight)
    magnitude = None
    if present[0].magnitude is not None:
        # DoRA scales a row by magnitude / norm of the updated row: 1 where nothing was updated.
        magnitudes = [
            weight.detach().norm(dim=1) if update is None else update.magnitude
            for update, weight in zip(updates, weights, strict=True)
        ]
        magnitude = torch.cat([part for part in magnitudes if part is not None])
    return Update(torch.cat([update.down for update in present]), up, magnitude)


def _of_lora(layer: Any) -> Update:
    down, up = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
    magnitudes = layer.lora_magnitude_vector
    magnitude = magnitudes["default"].weight.detach() if "default" in magnitudes else None
    return Update(down, up.flatten(1) * layer.scaling["default"], magnitude)


def _factored_updates(tuned: ModelMap, plain: ModelMap) -> dict[str, Update]:
    """Updates of any method, as the singular value decomposition of each weight's change."""
    updates = {}
    for name in _adapted_names(tuned):
        layer: Any = tuned.modules[name]
        layers = [getattr(layer, part) for part in PARTS] if _is_split(layer) else [layer]
        after = torch.cat([_merged_weight(part) for part in layers])
        before: Any = plain.model.get_submodule(name)
        change = after - before.weight.detach().double()
        left, values, right = torch.linalg.svd(change.flatten(1), full_matrices=False)
        updates[name] = Update(*_factors(left, values, right, change.shape[1:]))
    return updates


def _factors(
    left: Tensor, values: Tensor, right: Tensor, shape: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """A and B of a singular value decomposition, without its negligible tail."""
    tails = values.square().flip(0).cumsum(0).flip(0).sqrt()
    rank = max(1, int((tails > TAIL * tails[0]).sum()))
    root = values[:rank].sqrt()
    down = (root[:, None] * right[:rank]).reshape(rank, *shape)
    return down.float(), (left[:, :rank] * root).float()


def _merged_weight(layer: Any) -> Tensor:
    exact = copy.deepcopy(layer).double()
    if hasattr(exact, "base_layer"):
        exact.merge(safe_merge=True)
        exact = exact.get_base_layer()
    weight: Tensor = exact.weight.detach()
    return weight


def _adapted_names(tuned: ModelMap) -> list[str]:
    """Names, in a plain timm model, of the layers that the adapter changes."""
    names = (
        name.rpartition(".")[0] if _in_split(tuned, name) else name for name in tuned.adapted_layers
    )
    return list(dict.fromkeys(names))


def _with_scales(tuned: ModelMap, plain: ModelMap) -> Any:
    """Add the scales of (IA)³ of a tuned model to a plain model."""
    import peft

    layers = tuned.adapted_layers
    scales: dict[str, Tensor] = {}
    for name, layer in layers.items():
        parent, _, part = name.rpartition(".")
        scale = layer.ia3_l["default"].detach()
        if not _in_split(tuned, name):
            scales[name] = scale
            continue
        rows = len(layer.get_base_layer().weight)
        fused = scales.setdefault(parent, torch.ones(3 * rows, 1))
        start = PARTS.index(part) * rows
        fused[start : start + rows] = scale
    config = peft.IA3Config(
        target_modules=list(scales),
        feedforward_modules=[name for name, layer in layers.items() if layer.is_feedforward],
        modules_to_save=classifier_names(plain),
    )
    wrapped = peft.get_peft_model(plain.model, config)
    with torch.no_grad():
        for name, scale in scales.items():
            parameter = wrapped.base_model.model.get_submodule(name).ia3_l["default"]
            parameter.copy_(scale.reshape(parameter.shape))
    return wrapped


def _with_norms(tuned: ModelMap, plain: ModelMap) -> Any:
    """Add the normalisation layers of a tuned model to a plain model, as LN tuning."""
    import peft

    classifier = classifier_names(plain)
    names = [
        name
        for name, module in tuned.norms.items()
        if name not in classifier and list(module.parameters(recurse=False))
    ]
    # A pattern of whole names: given a list, peft also adapts layers whose names end like one.
    pattern = "|".join(re.escape(name) for name in names)
    config = peft.LNTuningConfig(target_modules=pattern, modules_to_save=classifier)
    with warnings.catch_warnings():
        # peft warns about every class but torch's LayerNorm; timm's classes derive from it.
        warnings.simplefilter("ignore", UserWarning)
        wrapped = peft.get_peft_model(plain.model, config)
    for name in names:
        layer = wrapped.base_model.model.get_submodule(name).ln_tuning_layers["default"]
        layer.load_state_dict(tuned.modules[name].state_dict())
    return wrapped


def _changes_initial_weights(model: nn.Module) -> bool:
    """Whether the method changes the weights when it starts, as PiSSA and OLoRA do."""
    config = model.peft_config["default"]  # type: ignore[index]
    return isinstance(getattr(config, "init_lora_weights", True), str)


def _in_split(tuned: ModelMap, name: str) -> bool:
    """Whether a layer is part of a matrix that a plain timm model keeps fused."""
    return _is_split(tuned.modules[name.rpartition(".")[0]])


def _is_split(module: nn.Module) -> bool:
    return isinstance(module, SplitProjection)
