"""A tuned model as a peft adapter for a plain timm model, which knows nothing of this software.

Here query, key and value are adapted apart, on projections of their own; a plain timm model has one
fused matrix. Adapters of the three become one adapter of that matrix: their A side by side, their B
in a block of rows each, so that query, key and value still share nothing.
"""

from __future__ import annotations

import copy
import re
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core.config.run import AdapterSpec
from core.errors import ModelError
from core.models.backbones import qkv
from core.models.backbones.qkv import SplitProjection
from core.models.tuning.apply import classifier_parameters
from core.models.tuning.registry import tuning_method

PARTS = ("q", "k", "v")
TAIL = 1e-6
"""Share of an update's Frobenius norm that its factors may leave out."""
REMEDY = "Export its timm weights instead (format merged)."


@dataclass(frozen=True)
class Update:
    """What a low-rank adapter of one layer holds.

    Attributes:
        down: A, of the shape of the layer's weight, with as many rows as its rank.
        up: B of shape [rows, rank], its scale worked in.
        magnitude: DoRA's length of each row; None without.
    """

    down: Tensor
    up: Tensor
    magnitude: Tensor | None = None


def portable(model: nn.Module, plain: nn.Module, spec: AdapterSpec) -> Any:
    """Put a tuned model's adapter and classifier around a plain timm model.

    Args:
        model: The tuned model.
        plain: The same backbone with the weights it was tuned from, after ``separate``; it is
            changed.
        spec: How ``model`` was tuned.

    Returns:
        A ``peft.PeftModel`` around ``plain`` whose ``save_pretrained`` writes a portable folder.

    Raises:
        ModelError: The method leaves no adapter.
    """
    chosen = tuning_method(spec.method)
    head = classifier(plain)
    if chosen.name == "ln-tuning":
        found = _norms(model, plain, head)
    elif chosen.config is None:
        raise ModelError(
            f"{chosen.title} leaves no adapter that peft knows: what it trains is part of the "
            "model itself.",
            REMEDY,
        )
    elif chosen.name == "ia3":
        found = _scales(model, plain, head)
    else:
        found = _low_rank(model, plain, head)
    _copy_classifier(model, found, head)
    return found


def classifier(model: nn.Module) -> list[str]:
    """Names of the modules that make up a plain model's classifier."""
    wanted = classifier_parameters(model)
    return [
        name
        for name, module in model.named_modules()
        if any(module is one for one in wanted) and list(module.parameters())
    ]


def separate(model: nn.Module, plain: nn.Module) -> dict[str, Any]:
    """Take query, key and value apart where timm's own model can have them so.

    timm's EVA reads its fused matrix past any adapter on it, but knows separate projections too.

    Args:
        model: The tuned model.
        plain: A plain model of the same architecture; it is changed where ``model`` was.

    Returns:
        What ``timm.create_model`` is given beside the rest to have such a model.
    """
    if not any(getattr(one, "was_fused", False) for _, one in qkv.attentions(model)):
        return {}
    qkv.split(plain)
    return {"qkv_fused": False}


def _low_rank(model: nn.Module, plain: nn.Module, head: list[str]) -> Any:
    import peft

    updates = _stacked(model)
    if updates is None:
        updates = _factored(model, plain)
    dora = any(update.magnitude is not None for update in updates.values())
    ranks = {name: len(update.down) for name, update in updates.items()}
    most = max(ranks.values())
    apart = {name: rank for name, rank in ranks.items() if rank != most}
    config = peft.LoraConfig(
        r=most,
        lora_alpha=most,  # the scale alpha / r is worked into B
        rank_pattern=apart,
        alpha_pattern=apart,
        target_modules=list(updates),
        modules_to_save=head,
        use_dora=dora,
    )
    wrapped = peft.get_peft_model(plain, config)
    with torch.no_grad():
        for name, update in updates.items():
            layer = wrapped.base_model.model.get_submodule(name)
            down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            down.copy_(update.down.reshape(down.shape))
            up.copy_(update.up.reshape(up.shape))
            if update.magnitude is not None:
                layer.lora_magnitude_vector["default"].weight.copy_(update.magnitude)
    return wrapped


def _stacked(model: nn.Module) -> dict[str, Update] | None:
    """Updates of LoRA as they were trained; None where they are not B·A on the first weights."""
    from peft.tuners.adalora.layer import AdaLoraLayer
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if hasattr(module, "base_layer")]
    plainly = all(
        isinstance(one, LoraLayer) and not isinstance(one, AdaLoraLayer) for one in layers
    )
    if not plainly or _starts_elsewhere(model):
        return None
    updates = {}
    for name in _adapted(model):
        layer = model.get_submodule(name)
        updates[name] = _joined(layer) if _is_split(layer) else _of_lora(layer)
    return updates


def _joined(projection: Any) -> Update:
    """One update of a fused matrix from those of its parts; parts without one stay as they are."""
    parts = [getattr(projection, part) for part in PARTS]
    each = [_of_lora(part) if hasattr(part, "base_layer") else None for part in parts]
    held = [update for update in each if update is not None]
    rows = [getattr(part, "base_layer", part).weight for part in parts]
    up = torch.zeros(sum(len(one) for one in rows), sum(len(one.down) for one in held))
    row = column = 0
    for update, weight in zip(each, rows, strict=True):
        if update is not None:
            rank = len(update.down)
            up[row : row + len(weight), column : column + rank] = update.up
            column += rank
        row += len(weight)
    magnitude = None
    if held[0].magnitude is not None:
        # DoRA multiplies a row by its length over its present length: 1 where nothing was updated.
        lengths = [
            weight.detach().norm(dim=1) if update is None else update.magnitude
            for update, weight in zip(each, rows, strict=True)
        ]
        magnitude = torch.cat([one for one in lengths if one is not None])
    return Update(torch.cat([update.down for update in held]), up, magnitude)


def _of_lora(layer: Any) -> Update:
    down, up = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
    lengths = layer.lora_magnitude_vector
    magnitude = lengths["default"].weight.detach() if "default" in lengths else None
    return Update(down, up.flatten(1) * layer.scaling["default"], magnitude)


def _factored(model: nn.Module, plain: nn.Module) -> dict[str, Update]:
    """Updates of any method as exact factors of what it added to each weight."""
    updates = {}
    for name in _adapted(model):
        layer: Any = model.get_submodule(name)
        parts = [getattr(layer, part) for part in PARTS] if _is_split(layer) else [layer]
        after = torch.cat([_merged_weight(part) for part in parts])
        before: Any = plain.get_submodule(name)
        added = after - before.weight.detach().double()
        left, sizes, right = torch.linalg.svd(added.flatten(1), full_matrices=False)
        tails = sizes.square().flip(0).cumsum(0).flip(0).sqrt()
        rank = max(1, int((tails > TAIL * tails[0]).sum()))
        root = sizes[:rank].sqrt()
        down = (root[:, None] * right[:rank]).reshape(rank, *added.shape[1:])
        updates[name] = Update(down.float(), (left[:, :rank] * root).float())
    return updates


def _merged_weight(layer: Any) -> Tensor:
    exact = copy.deepcopy(layer).double()
    if hasattr(exact, "base_layer"):
        exact.merge(safe_merge=True)
        exact = exact.get_base_layer()
    weight: Tensor = exact.weight.detach()
    return weight


def _adapted(model: nn.Module) -> list[str]:
    """Names, in a plain timm model, of the layers that an adapter changes."""
    names = [name for name, module in model.named_modules() if hasattr(module, "base_layer")]
    return list(
        dict.fromkeys(name.rpartition(".")[0] if _fused(model, name) else name for name in names)
    )


def _scales(model: nn.Module, plain: nn.Module, head: list[str]) -> Any:
    import peft

    layers: dict[str, Any] = {
        name: module for name, module in model.named_modules() if hasattr(module, "ia3_l")
    }
    scales: dict[str, Tensor] = {}
    for name, layer in layers.items():
        parent, _, part = name.rpartition(".")
        if not _fused(model, name):
            scales[name] = layer.ia3_l["default"].detach()
            continue
        rows = len(layer.get_base_layer().weight)
        whole = scales.setdefault(parent, torch.ones(3 * rows, 1))
        start = PARTS.index(part) * rows
        whole[start : start + rows] = layer.ia3_l["default"].detach()
    config = peft.IA3Config(
        target_modules=list(scales),
        feedforward_modules=[name for name, layer in layers.items() if layer.is_feedforward],
        modules_to_save=head,
    )
    wrapped = peft.get_peft_model(plain, config)
    with torch.no_grad():
        for name, scale in scales.items():
            place = wrapped.base_model.model.get_submodule(name).ia3_l["default"]
            place.copy_(scale.reshape(place.shape))
    return wrapped


def _norms(model: nn.Module, plain: nn.Module, head: list[str]) -> Any:
    import peft

    kept = [
        name
        for name, module in model.named_modules()
        if "Norm" in type(module).__name__
        and name not in head
        and list(module.parameters(recurse=False))
    ]
    # A pattern of whole names: of a list, peft also takes the layers whose names end like one.
    whole = "|".join(re.escape(name) for name in kept)
    config = peft.LNTuningConfig(target_modules=whole, modules_to_save=head)
    with warnings.catch_warnings():
        # It warns of every class but torch's own LayerNorm; timm's are that with another forward.
        warnings.simplefilter("ignore", UserWarning)
        wrapped = peft.get_peft_model(plain, config)
    for name in kept:
        layer = wrapped.base_model.model.get_submodule(name).ln_tuning_layers["default"]
        layer.load_state_dict(model.get_submodule(name).state_dict())
    return wrapped


def _copy_classifier(model: nn.Module, wrapped: Any, head: list[str]) -> None:
    for name in head:
        place = wrapped.base_model.model.get_submodule(name).modules_to_save["default"]
        place.load_state_dict(model.get_submodule(name).state_dict())


def _starts_elsewhere(model: nn.Module) -> bool:
    """Whether the method changed the weight itself at its start, as PiSSA and OLoRA do."""
    config = model.peft_config["default"]  # type: ignore[index]
    return isinstance(getattr(config, "init_lora_weights", True), str)


def _fused(model: nn.Module, name: str) -> bool:
    """Whether a layer is a part of a matrix that a plain timm model holds in one."""
    return _is_split(model.get_submodule(name.rpartition(".")[0]))


def _is_split(module: nn.Module) -> bool:
    return isinstance(module, SplitProjection)
