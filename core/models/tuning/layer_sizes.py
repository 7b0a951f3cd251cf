"""Sizes that have to fit the widths of every layer that is adapted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from core.errors import ConfigurationError

LONGEST_VECTOR = 256


def block_size(
    layers: Layers, asked: int | None, butterflies: int = 1, *, most: int = 32, even: bool = False
) -> int:
    """Side of the blocks of a rotation.

    Args:
        layers: The layers that are rotated.
        asked: A side to take; None takes the largest up to ``most`` that fits every layer.
        butterflies: Factors of the rotation; the last joins 2 to their number less one blocks.
        most: The largest side taken where none is asked for.
        even: Whether a butterfly, which pairs halves of blocks, has to be able to cut it in two.

    Raises:
        ConfigurationError: The side asked for does not divide a layer's inputs, or none does.
    """
    inputs = {name: layer.weight.shape[1] for name, layer in layers.items()}
    joined = 2 ** (butterflies - 1)
    step = 2 if even and butterflies > 1 else 1
    common = math.gcd(*inputs.values())
    fitting = [n for n in range(2, common + 1) if n % step == 0 and common % (n * joined) == 0]
    if asked in fitting:
        assert asked is not None
        return asked
    if asked is not None:
        name, width = next(
            (n, w) for n, w in inputs.items() if w % (asked * joined) or asked % step
        )
        raise ConfigurationError(
            f"Blocks of {asked} with {butterflies} butterfly factors do not fit the {width} inputs "
            f"of the layer {name}."
            if butterflies > 1
            else f"Blocks of {asked} do not fit the {width} inputs of the layer {name}.",
            _remedy(fitting),
            field="adapter.block_size",
        )
    small = [n for n in fitting if n <= most]
    if not small:
        raise ConfigurationError(
            f"No block fits the inputs of every layer ({', '.join(_some(set(inputs.values())))}).",
            _remedy(fitting),
            field="adapter.butterflies" if butterflies > 1 else "adapter.targets",
        )
    return small[-1]


def vector_length(layers: Layers) -> int:
    """The largest length up to ``LONGEST_VECTOR`` that divides both sides of every layer."""
    common = math.gcd(*(side for layer in layers.values() for side in layer.weight.shape[:2]))
    return max(n for n in range(1, LONGEST_VECTOR + 1) if common % n == 0)


def require_vector_length(layers: Layers, length: int) -> None:
    """Refuse vectors of which no whole number makes a row or a column.

    Raises:
        ConfigurationError: The length does not divide a side of a layer.
    """
    for name, layer in layers.items():
        rows, columns = layer.weight.shape[:2]
        if rows % length or columns % length:
            raise ConfigurationError(
                f"Vectors of {length} do not divide the layer {name} ({rows} × {columns}).",
                f"Choose {vector_length(layers)}, or leave it to its default.",
                field="adapter.vector_length",
            )


def require_frequencies(layers: Layers, frequencies: int) -> None:
    """Refuse more Fourier coefficients than a weight has.

    Raises:
        ConfigurationError: A layer has fewer weights.
    """
    for name, layer in layers.items():
        weights = layer.weight.numel()
        if frequencies > weights:
            raise ConfigurationError(
                f"The layer {name} has {weights:,} weights, too few for {frequencies:,} "
                "frequencies.",
                f"Choose at most {weights}.",
                field="adapter.frequencies",
            )


def require_rank(layers: Layers, rank: int, field: str = "adapter.rank") -> None:
    """Refuse a rank above the smaller side of a layer: the update would not be of low rank.

    Raises:
        ConfigurationError: The rank is too large for a layer.
    """
    for name, layer in layers.items():
        rows, columns = layer.weight.shape[:2]
        smaller = min(rows, columns)
        if rank > smaller:
            raise ConfigurationError(
                f"Rank {rank} is larger than the layer {name} ({rows} × {columns}).",
                f"Choose a rank of at most {smaller}.",
                field=field,
            )


def _remedy(fitting: list[int]) -> str:
    if not fitting:
        return "Choose other targets, or fewer butterfly factors."
    return f"Choose one of {', '.join(_some(set(fitting)))}."


def _some(numbers: set[int]) -> list[str]:
    return [str(one) for one in sorted(numbers)[:12]]


Layers = Mapping[str, Any]
"""The layers that are adapted, by their names in the model."""
