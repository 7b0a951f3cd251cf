"""Target layers of an adapter: named choices, patterns of layer names, and selected blocks."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from core.config.run import AdapterSpec
from core.errors import ConfigurationError
from core.models.backbones import qkv
from core.models.backbones.blocks import parse_blocks
from core.models.backbones.model_map import ModelMap, is_dense, is_pointwise
from core.models.tuning.method import LayerKind, Method

PARTS: dict[str, tuple[str, ...]] = {
    "qv": ("q", "v"),
    "qkv": ("q", "k", "v"),
    "attn": ("q", "k", "v", "proj"),
    "mlp": ("mlp",),
    "all": ("q", "k", "v", "proj", "mlp"),
}
"""The named choices of targets, each with the parts of a transformer block that it selects. The
patch embedding is never one of them. In a network without attention and MLP, ``all`` selects the
convolutions of the blocks."""

FIELD = "adapter.targets"
_KINDS: dict[LayerKind, str] = {
    "linear": "linear layers",
    "pointwise": "linear layers and 1 × 1 convolutions",
    "convolution": "linear layers and convolutions that are not depthwise",
}


def target_layers(parts: ModelMap, method: Method, spec: AdapterSpec) -> dict[str, Any]:
    """The layers that a method adapts, by name; fused query-key-value projections are split for it.

    Raises:
        ConfigurationError: The architecture has no such layers, or the method cannot adapt them.
    """
    if method.parts:
        names = _layers_of(parts, _existing(parts, method.parts) or method.parts, method)
    elif spec.targets == "all":
        existing = _existing(parts, PARTS["all"])
        names = _layers_of(parts, existing, method) if existing else parts.block_convolutions()
    elif spec.targets in PARTS:
        names = _layers_of(parts, PARTS[spec.targets], method)
    else:
        names = _matching(parts, spec.targets)
    if spec.blocks is not None:
        names = _in_blocks(parts, names, spec.blocks)
    names = [name for name in names if name.rpartition(".")[2] not in method.skips]
    layers = {name: parts.model.get_submodule(name) for name in names}
    return _adaptable(parts, method, spec, layers)


def fitting(parts: ModelMap, kind: LayerKind = "convolution") -> tuple[str, ...]:
    """The choices of ``PARTS`` for which a model has layers, the most common first.

    Args:
        parts: Map of the model, before an adapter is added.
        kind: Which layers the method can adapt.
    """

    def adaptable(names: list[str] | tuple[str, ...]) -> bool:
        return any(name in parts.layers and _is(parts.layers[name], kind) for name in names)

    choices: tuple[str, ...] = ("qv", "qkv", "attn") if parts.attentions else ()
    if adaptable(parts.mlp_layers):
        choices += ("mlp",)
    return (*choices, "all") if choices or adaptable(parts.block_convolutions()) else ()


def _existing(parts: ModelMap, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Those parts of a block that the model has."""
    return tuple(
        part for part in wanted if (parts.mlp_layers if part == "mlp" else parts.attentions)
    )


def _layers_of(parts: ModelMap, wanted: tuple[str, ...], method: Method) -> list[str]:
    """Names of the layers of some parts of all blocks."""
    names: list[str] = []
    if set(wanted) - {"mlp"}:
        if not parts.attentions:
            raise _unsuited(
                parts, method, "query and value of attention, which it lacks or does not separate"
            )
        if set(wanted) & set("qkv"):
            qkv.split(parts)
        for name, module in parts.attentions.items():
            projections = qkv.projections(name, module)
            names += [projections[part] for part in projections if part in wanted]
    if "mlp" in wanted:
        if not parts.mlp_layers:
            raise _unsuited(parts, method, "the layers of an MLP, which it does not have")
        names += parts.mlp_layers
    return names


def _matching(parts: ModelMap, pattern: str) -> list[str]:
    """Layers whose whole name matches a pattern; fused attention has its fused and split names."""
    # Compiled when the specification was made, so it is a valid regular expression.
    matches = [name for name in parts.layers if re.fullmatch(pattern, name)]
    by_fused = {
        f"{name}.qkv": list(qkv.projections(name, module).values())[:3]
        for name, module in parts.attentions.items()
    }
    projections = [name for names in by_fused.values() for name in names]
    chosen = {name for name in projections if re.fullmatch(pattern, name)}
    chosen |= {part for name in matches if name in by_fused for part in by_fused[name]}
    names = [name for name in matches if name not in by_fused]
    _check_inside_blocks(parts, names, pattern)
    if chosen:
        qkv.split(parts)
        names += [name for name in projections if name in chosen]
    if not names:
        candidates = list(parts.layers)
        example = candidates[len(candidates) // 2] if candidates else ""
        raise ConfigurationError(
            f"The targets “{pattern}” are not one of {', '.join(PARTS)}, and as a pattern they "
            f"match the whole name of no layer of {type(parts.model).__name__}.",
            f"Layer names look like {example}; “.*” matches anything." if example else "",
            field=FIELD,
        )
    return names


def _check_inside_blocks(parts: ModelMap, names: list[str], pattern: str) -> None:
    """A pattern must match neither the patch embedding (or stem) nor the classifier."""
    for name in names:
        if parts.in_classifier(name) or parts.in_stem(name):
            what = (
                "the classifier, which always trains"
                if parts.in_classifier(name)
                else "the patch embedding"
            )
            raise ConfigurationError(
                f"The pattern “{pattern}” also matches {name}: {what}.",
                "Write a pattern that matches only layers of the blocks, such as blocks\\..*proj.",
                field=FIELD,
            )


def _in_blocks(parts: ModelMap, names: list[str], text: str) -> list[str]:
    wanted = parse_blocks(text, parts.block_count, type(parts.model).__name__)
    names = [name for name in names if parts.block_of(name) in wanted]
    if not names:
        raise ConfigurationError(
            f"None of the target layers is in the blocks {text}.",
            "Choose other blocks, or other targets.",
            field="adapter.blocks",
        )
    return names


def _adaptable(
    parts: ModelMap, method: Method, spec: AdapterSpec, layers: dict[str, Any]
) -> dict[str, Any]:
    """The layers that the method can adapt; it must be all of them if a pattern selected them."""
    adaptable = {name: layer for name, layer in layers.items() if _is(layer, method.kind)}
    named = spec.targets in PARTS or bool(method.parts)
    if adaptable and (named or len(adaptable) == len(layers)):
        return adaptable
    other = next(name for name in layers if name not in adaptable)
    choices = fitting(parts, method.kind)
    raise ConfigurationError(
        f"{method.title} cannot tune {other} of a {type(parts.model).__name__}: it adapts "
        f"{_KINDS[method.kind]}, and this layer is a {type(layers[other]).__name__}.",
        f"Choose the targets {choices[0]}, or the method lora."
        if choices
        else "Choose the method lora, ssf, full or linear.",
        field=FIELD if choices else "adapter.method",
    )


def _is(layer: nn.Module, kind: LayerKind) -> bool:
    match kind:
        case "linear":
            return isinstance(layer, nn.Linear)
        case "pointwise":
            return is_pointwise(layer)
        case "convolution":
            return is_dense(layer)


def _unsuited(parts: ModelMap, method: Method, needs: str) -> ConfigurationError:
    choices = () if method.parts else fitting(parts, method.kind)
    others = f"the targets {choices[0]}, or " if choices else ""
    return ConfigurationError(
        f"{method.title} cannot tune a {type(parts.model).__name__}: it adapts {needs}.",
        f"Choose {others}the method full, linear or bitfit, or a vision transformer.",
        field=FIELD if others else "adapter.method",
    )
