"""Which layers of a model an adapter is put on."""

from __future__ import annotations

from typing import Any

from torch import nn

from core.errors import ConfigurationError
from core.models import attention

PARTS: dict[str, tuple[str, ...]] = {
    "qv": ("q", "v"),
    "qkv": ("q", "k", "v"),
    "attn": ("q", "k", "v", "proj"),
    "mlp": ("mlp",),
    "all": ("q", "k", "v", "proj", "mlp"),
}
"""Parts of a transformer block by the name of the choice; never the patch embedding."""

_MLP = ("fc1", "fc1_g", "fc1_x", "fc2")


def layers(model: nn.Module, parts: tuple[str, ...], method: str) -> list[str]:
    """Names of the layers of some parts of every block; fused attention is split for them.

    Args:
        model: A timm model.
        parts: Of ``q``, ``k``, ``v``, ``proj`` (attention) and ``mlp`` (both of its layers).
        method: The method's title, for the message.

    Raises:
        ConfigurationError: The architecture has no such layers.
    """
    wanted = set(parts)
    names: list[str] = []
    if wanted - {"mlp"}:
        found = list(attention.attentions(model))
        if not found:
            raise _unsuited(
                model, method, "query and value of attention, which it has not, or not apart"
            )
        if wanted & set("qkv"):
            attention.split(model)
        for name, module in found:
            each = attention.projections(name, module)
            names += [each[part] for part in each if part in wanted]
    if "mlp" in wanted:
        mlps = [
            f"{name}.{part}" for name, module in model.named_modules() for part in _dense(module)
        ]
        if not mlps:
            raise _unsuited(model, method, "the layers of an MLP, which it does not have")
        names += mlps
    return names


def require_rank(model: nn.Module, names: list[str], rank: int) -> None:
    """Refuse a rank above the smaller side of a layer: the update would not be of low rank.

    Raises:
        ConfigurationError: The rank is too large for a layer.
    """
    for name in names:
        layer: Any = model.get_submodule(name)
        rows, columns = layer.weight.shape[:2]
        smaller = min(rows, columns)
        if rank > smaller:
            raise ConfigurationError(
                f"Rank {rank} is larger than the layer {name} ({rows} × {columns}).",
                f"Choose a rank of at most {smaller}.",
                field="adapter.rank",
            )


def _dense(module: Any) -> list[str]:
    """The layers of a block's MLP; 1 × 1 convolutions, as ConvNeXt has them, are dense layers."""
    if not (hasattr(module, "fc2") and (hasattr(module, "fc1") or hasattr(module, "fc1_g"))):
        return []
    found = [(name, getattr(module, name, None)) for name in _MLP]
    return [
        name
        for name, layer in found
        if isinstance(layer, nn.Linear)
        or (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1))
    ]


def _unsuited(model: nn.Module, method: str, needs: str) -> ConfigurationError:
    dense = any(_dense(module) for module in model.modules())
    others = "the targets mlp, or " if dense and "attention" in needs else ""
    return ConfigurationError(
        f"{method} cannot tune a {type(model).__name__}: it adapts {needs}.",
        f"Choose {others}the method full, linear or bitfit, or a vision transformer.",
        field="adapter.targets" if others else "adapter.method",
    )
