"""Keyword arguments of peft's configuration classes, method by method.

This module imports neither torch nor peft, so that the methods can be listed without delay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.config.defaults import DROPOUT
from core.config.run import AdapterSpec
from core.models.tuning import layer_sizes
from core.models.tuning.layer_sizes import Layers

Arguments = Callable[[AdapterSpec, Layers], dict[str, Any]]


def lora(spec: AdapterSpec, layers: Layers) -> dict[str, Any]:
    """Arguments of LoRA."""
    return {"r": spec.rank, "lora_alpha": spec.alpha, "lora_dropout": _dropout(spec)}


def lora_variant(**options: Any) -> Arguments:
    """Arguments of a variant of LoRA.

    Args:
        **options: Options of ``peft.LoraConfig`` that select the variant.
    """
    return lambda spec, layers: lora(spec, layers) | options


def rank_and_alpha(spec: AdapterSpec, layers: Layers) -> dict[str, Any]:
    """Arguments of LoHa and LoKr."""
    return {"r": spec.rank, "alpha": spec.alpha}


def vera(spec: AdapterSpec, layers: Layers) -> dict[str, Any]:
    """Arguments of VeRA; its fixed matrices are always drawn from the same seed."""
    return {"r": spec.rank, "vera_dropout": _dropout(spec), "projection_prng_key": 0}


def adalora(spec: AdapterSpec, layers: Layers) -> dict[str, Any]:
    """Arguments of AdaLoRA.

    The number of steps is a placeholder: only the training loop knows it, and ``RankBudget`` sets
    it.
    """
    return {
        "init_r": spec.initial_rank,
        "target_r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": _dropout(spec),
        "total_step": 1,
    }


def vblora(spec: AdapterSpec, layers: Layers) -> dict[str, Any]:
    """Arguments of VB-LoRA; by default the longest vectors that fit every layer."""
    return {
        "r": spec.rank,
        "num_vectors": spec.vectors,
        "vector_length": spec.vector_length or layer_sizes.vector_length(layers),
        "vblora_dropout": _dropout(spec),
    }


def oft(spec: AdapterSpec, layers: Layers) -> dict[str, Any]:
    """Arguments of OFT; by default the largest blocks that fit every layer."""
    return {"r": 0, "oft_block_size": layer_sizes.block_size(layers, spec.block_size)}


def boft(spec: AdapterSpec, layers: Layers) -> dict[str, Any]:
    """Arguments of BOFT; by default the largest blocks up to 8 that fit every layer."""
    from core.models.tuning.boft import use_torch_block_diagonal

    use_torch_block_diagonal()
    factors = spec.butterflies
    assert factors is not None
    return {
        "boft_block_size": layer_sizes.block_size(
            layers, spec.block_size, factors, largest=8, even=True
        ),
        "boft_n_butterfly_factor": factors,
    }


def fourierft(spec: AdapterSpec, layers: Layers) -> dict[str, Any]:
    """Arguments of FourierFT; its frequencies are always drawn from the same seed."""
    assert spec.frequencies is not None
    layer_sizes.check_frequencies(layers, spec.frequencies)
    return {"n_frequency": spec.frequencies, "scaling": spec.scaling, "random_loc_seed": 0}


def ia3(spec: AdapterSpec, layers: Layers) -> dict[str, Any]:
    """Arguments of (IA)³, which scales the input of the second layer of an MLP."""
    return {"feedforward_modules": [name for name in layers if name.endswith("fc2")]}


def _dropout(spec: AdapterSpec) -> float:
    return DROPOUT if spec.dropout is None else spec.dropout
