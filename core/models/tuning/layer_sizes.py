"""Sizes of adapters that must fit the dimensions of every adapted layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from core.errors import ConfigurationError

Layers = Mapping[str, Any]
"""The adapted layers by their names in the model."""

MAX_VECTOR_LENGTH = 256


def block_size(
    layers: Layers,
    requested: int | None,
    butterflies: int = 1,
    *,
    largest: int = 32,
    even: bool = False,
) -> int:
    """Side of the blocks of a rotation.

    Args:
        layers: The adapted layers.
        requested: The requested side; None selects the largest up to ``largest`` that fits every
            layer.
        butterflies: Number of factors k of the rotation; the last factor mixes 2^(k − 1) blocks.
        largest: Largest side that is selected by default.
        even: Whether the side must be even with several factors, because a butterfly factor pairs
            halves of blocks.

    Raises:
        ConfigurationError: The requested side does not divide a layer's inputs, or no side does.
    """
    inputs = {name: layer.weight.shape[1] for name, layer in layers.items()}
    mixed = 2 ** (butterflies - 1)
    step = 2 if even and butterflies > 1 else 1
    common = math.gcd(*inputs.values())
    fitting = [n for n in range(2, common + 1) if n % step == 0 and common % (n * mixed) == 0]
    if requested in fitting:
        assert requested is not None
        return requested
    if requested is not None:
        name, width = next(
            (n, w) for n, w in inputs.items() if w % (requested * mixed) or requested % step
        )
        factors = f" with {butterflies} butterfly factors" if butterflies > 1 else ""
        raise ConfigurationError(
            f"Blocks of {requested}{factors} do not fit the {width} inputs of the layer {name}.",
            _remedy(fitting),
            field="adapter.block_size",
        )
    small = [n for n in fitting if n <= largest]
    if not small:
        raise ConfigurationError(
            "No block size fits the inputs of every layer "
            f"({', '.join(_first(set(inputs.values())))}).",
            _remedy(fitting),
            field="adapter.butterflies" if butterflies > 1 else "adapter.targets",
        )
    return small[-1]


def vector_length(layers: Layers) -> int:
    """The largest length up to ``MAX_VECTOR_LENGTH`` that divides both sides of every layer."""
    common = math.gcd(*(side for layer in layers.values() for side in layer.weight.shape[:2]))
    return max(n for n in range(1, MAX_VECTOR_LENGTH + 1) if common % n == 0)


def check_vector_length(layers: Layers, length: int) -> None:
    """Check that a vector length divides both sides of every layer.

    Raises:
        ConfigurationError: It does not divide a side of a layer.
    """
    for name, layer in layers.items():
        rows, columns = layer.weight.shape[:2]
        if rows % length or columns % length:
            raise ConfigurationError(
                f"Vectors of length {length} do not divide the layer {name} ({rows} × {columns}).",
                f"Choose {vector_length(layers)}, or leave the length at its default.",
                field="adapter.vector_length",
            )


def check_frequencies(layers: Layers, frequencies: int) -> None:
    """Check that every layer has at least as many weights as Fourier coefficients.

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


def check_rank(layers: Layers, rank: int, field: str = "adapter.rank") -> None:
    """Check that a rank is at most the smaller side of every layer.

    Raises:
        ConfigurationError: It is larger, so that the update of a layer would not be of low rank.
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
    return f"Choose one of {', '.join(_first(set(fitting)))}."


def _first(numbers: set[int]) -> list[str]:
    return [str(number) for number in sorted(numbers)[:12]]
