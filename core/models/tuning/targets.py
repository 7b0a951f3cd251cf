"""Which layers of a model an adapter is put on."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from core.config.run import AdapterSpec
from core.errors import ConfigurationError
from core.models.backbones import blocks, head, qkv
from core.models.tuning.registry import Kind, Method

PARTS: dict[str, tuple[str, ...]] = {
    "qv": ("q", "v"),
    "qkv": ("q", "k", "v"),
    "attn": ("q", "k", "v", "proj"),
    "mlp": ("mlp",),
    "all": ("q", "k", "v", "proj", "mlp"),
}
"""Parts of a transformer block by the name of the choice; never the patch embedding. In a network
without attention and MLP, ``all`` are the convolutions of its blocks."""

FIELD = "adapter.targets"
_MLP = ("fc1", "fc1_g", "fc1_x", "fc2")
_KINDS: dict[Kind, str] = {
    "linear": "linear layers",
    "pointwise": "linear layers and 1 × 1 convolutions",
    "convolution": "linear layers and convolutions that are not depthwise",
}


def layers(model: nn.Module, method: Method, spec: AdapterSpec) -> dict[str, Any]:
    """The layers that a method adapts; fused attention is split for them.

    Args:
        model: A timm model.
        method: The method.
        spec: Its settings.

    Returns:
        The layers by their names in the model.

    Raises:
        ConfigurationError: The architecture has no such layers, or the method cannot adapt them.
    """
    if method.parts:
        names = _of_parts(model, _there(model, method.parts) or method.parts, method)
    elif spec.targets == "all":
        names = _of_parts(model, _there(model, PARTS["all"]) or ("convolutions",), method)
    elif spec.targets in PARTS:
        names = _of_parts(model, PARTS[spec.targets], method)
    else:
        names = _matching(model, method, spec.targets)
    if spec.blocks is not None:
        names = blocks.within(model, names, spec.blocks)
        if not names:
            raise ConfigurationError(
                f"None of the adapted layers lies in the blocks {spec.blocks}.",
                "Choose other blocks, or other targets.",
                field="adapter.blocks",
            )
    names = [name for name in names if name.rpartition(".")[2] not in method.spares]
    found = {name: model.get_submodule(name) for name in names}
    return _adaptable(model, method, spec, found)


def fitting(model: nn.Module, kind: Kind = "convolution") -> tuple[str, ...]:
    """The choices of ``PARTS`` that a model has layers for, the best-known first.

    Args:
        model: A timm model, before any adapter.
        kind: Which layers the method can adapt.
    """
    able = {name for name, layer in model.named_modules() if _is(layer, kind)}
    dense = [name for name in _dense_layers(model) if name in able]
    attended = any(True for _ in qkv.attentions(model))
    choices: tuple[str, ...] = ("qv", "qkv", "attn") if attended else ()
    if dense:
        choices += ("mlp",)
    rest = [name for name in _convolutions(model) if name in able]
    return (*choices, "all") if choices or rest else ()


def _there(model: nn.Module, parts: tuple[str, ...]) -> tuple[str, ...]:
    """Those of some parts of a block that a model has."""
    attended = any(True for _ in qkv.attentions(model))
    dense = bool(_dense_layers(model))
    return tuple(part for part in parts if (dense if part == "mlp" else attended))


def _of_parts(model: nn.Module, parts: tuple[str, ...], method: Method) -> list[str]:
    if parts == ("convolutions",):
        return _convolutions(model)
    wanted = set(parts)
    names: list[str] = []
    if wanted - {"mlp"}:
        found = list(qkv.attentions(model))
        if not found:
            raise _unsuited(
                model, method, "query and value of attention, which it has not, or not apart"
            )
        if wanted & set("qkv"):
            qkv.split(model)
        for name, module in found:
            each = qkv.projections(name, module)
            names += [each[part] for part in each if part in wanted]
    if "mlp" in wanted:
        dense = _dense_layers(model)
        if not dense:
            raise _unsuited(model, method, "the layers of an MLP, which it does not have")
        names += dense
    return names


def _matching(model: nn.Module, method: Method, pattern: str) -> list[str]:
    """Layers whose whole name a pattern matches, timm's fused attention by either of its names."""
    candidates = _candidates(model)
    # Compiled when the specification was made, so that it is a regular expression.
    names = [name for name in candidates if re.fullmatch(pattern, name)]
    parts = {
        name: list(qkv.projections(name, module).values())[:3]
        for name, module in qkv.attentions(model)
    }
    fused = {f"{name}.qkv": each for name, each in parts.items()}
    split = [one for each in parts.values() for one in each]
    chosen = [one for one in split if re.fullmatch(pattern, one)]
    chosen += [one for name in names if name in fused for one in fused[name]]
    names = [name for name in names if name not in fused]
    _check_not_ends(model, names, pattern)
    if chosen:
        qkv.split(model)
        names += [name for name in split if name in chosen]
    if not names:
        near = candidates[len(candidates) // 2] if candidates else ""
        raise ConfigurationError(
            f"The targets “{pattern}” are none of {', '.join(PARTS)}, and as a pattern they match "
            f"the whole name of no layer of {type(model).__name__}.",
            f"The names look like {near}; “.*” stands for anything." if near else "",
            field=FIELD,
        )
    return names


def _candidates(model: nn.Module) -> list[str]:
    return [name for name, layer in model.named_modules() if _is(layer, "convolution")]


def _check_not_ends(model: nn.Module, names: list[str], pattern: str) -> None:
    """A pattern must reach neither the patch embedding (or stem) nor the classifier."""
    numbers = blocks.of_parameters(model)
    heads = head.names(model)
    for name in names:
        last = any(name == one or name.startswith(f"{one}.") for one in heads)
        stem = numbers.get(f"{name}.weight") == blocks.STEM and blocks.count(model) > 0
        if last or stem or "patch_embed" in name:
            what = "the classifier, which trains anyway" if last else "the patch embedding"
            raise ConfigurationError(
                f"The pattern “{pattern}” also matches {name}: {what}.",
                "Write a pattern of the blocks alone, such as blocks\\..*proj.",
                field=FIELD,
            )


def _adaptable(
    model: nn.Module, method: Method, spec: AdapterSpec, found: dict[str, Any]
) -> dict[str, Any]:
    """Those of the layers that the method can adapt; all of them, where a pattern named them."""
    able = {name: layer for name, layer in found.items() if _is(layer, method.kind)}
    named = spec.targets in PARTS or bool(method.parts)
    if able and (named or len(able) == len(found)):
        return able
    other = next(name for name in found if name not in able)
    choices = fitting(model, method.kind)
    raise ConfigurationError(
        f"{method.title} cannot tune {other} of a {type(model).__name__}: it adapts "
        f"{_KINDS[method.kind]}, and that is a {type(found[other]).__name__}.",
        f"Choose the targets {choices[0]}, or the method lora."
        if choices
        else "Choose the method lora, ssf, full or linear.",
        field=FIELD if choices else "adapter.method",
    )


def _is(layer: Any, kind: Kind) -> bool:
    if isinstance(layer, nn.Linear):
        return True
    if kind == "linear" or not isinstance(layer, nn.Conv2d) or layer.groups != 1:
        return False
    return kind == "convolution" or layer.kernel_size == (1, 1)


def _convolutions(model: nn.Module) -> list[str]:
    """The convolutions of the blocks that are not depthwise, in a network that has but these."""
    numbers, total = blocks.of_parameters(model), blocks.count(model)
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d)
        and _is(layer, "convolution")
        and 0 <= numbers[f"{name}.weight"] < total
    ]


def _dense_layers(model: nn.Module) -> list[str]:
    heads = tuple(head.names(model))
    return [
        f"{name}.{part}"
        for name, module in model.named_modules()
        for part in _dense(module)
        if name not in heads
    ]


def _dense(module: Any) -> list[str]:
    """The layers of a block's MLP; 1 × 1 convolutions, as ConvNeXt has them, are dense layers."""
    if not (hasattr(module, "fc2") and (hasattr(module, "fc1") or hasattr(module, "fc1_g"))):
        return []
    found = [(name, getattr(module, name, None)) for name in _MLP]
    return [name for name, layer in found if _is(layer, "pointwise")]


def _unsuited(model: nn.Module, method: Method, needs: str) -> ConfigurationError:
    choices = () if method.parts else fitting(model, method.kind)
    others = f"the targets {choices[0]}, or " if choices else ""
    return ConfigurationError(
        f"{method.title} cannot tune a {type(model).__name__}: it adapts {needs}.",
        f"Choose {others}the method full, linear or bitfit, or a vision transformer.",
        field=FIELD if others else "adapter.method",
    )
