"""Sizes of adapters that fit every layer, and errors for those that do not."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from core.errors import ConfigurationError
from core.models.tuning import layer_sizes


def layers(*sides: tuple[int, int]) -> dict[str, Any]:
    return {f"layer{i}": nn.Linear(*one, device="meta") for i, one in enumerate(sides)}


def test_the_default_is_the_largest_block_that_fits_every_layer() -> None:
    assert layer_sizes.block_size(layers((192, 192), (768, 192)), None) == 32
    assert layer_sizes.block_size(layers((40, 160), (160, 40)), None) == 20
    assert layer_sizes.block_size(layers((192, 192)), None, 2, largest=8, even=True) == 8
    assert layer_sizes.block_size(layers((40, 160)), None, 2, largest=8, even=True) == 4
    assert layer_sizes.block_size(layers((192, 192)), 96) == 96


@pytest.mark.parametrize(
    ("size", "factors", "message"), [(7, 1, "Blocks of 7"), (64, 3, "with 3 butterfly factors")]
)
def test_blocks_that_do_not_fit_are_rejected(size: int, factors: int, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        layer_sizes.block_size(layers((192, 64)), size, factors, even=True)
    assert caught.value.field == "adapter.block_size"
    assert "Choose one of 2" in caught.value.remedy


def test_layers_without_a_common_block_are_rejected() -> None:
    with pytest.raises(ConfigurationError, match="No block size fits"):
        layer_sizes.block_size(layers((7, 7), (9, 9)), None)


def test_vectors_divide_both_sides() -> None:
    assert layer_sizes.vector_length(layers((192, 768))) == 192
    assert layer_sizes.vector_length(layers((768, 3072))) == 256
    with pytest.raises(ConfigurationError, match=r"layer0 \(64 × 192\)") as caught:
        layer_sizes.check_vector_length(layers((192, 64)), 48)
    assert caught.value.field == "adapter.vector_length"
    assert "Choose 64" in caught.value.remedy


def test_a_weight_has_no_more_frequencies_than_entries() -> None:
    with pytest.raises(ConfigurationError, match="4,096 weights") as caught:
        layer_sizes.check_frequencies(layers((64, 64)), 5000)
    assert caught.value.field == "adapter.frequencies"
