"""What peft's configurations are given, method by method.

Nothing here imports torch or peft, so that the methods can be listed at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.config.defaults import DROPOUT
from core.config.run import AdapterSpec
from core.models.tuning.layer_sizes import Layers

Arguments = Callable[[AdapterSpec, Layers], dict[str, Any]]


def lora(spec: AdapterSpec, layers: Layers, **more: Any) -> dict[str, Any]:
    """LoRA and its variants, with what tells a variant."""
    return {"r": spec.rank, "lora_alpha": spec.alpha, "lora_dropout": _dropout(spec), **more}


def like_lora(**more: Any) -> Arguments:
    """A variant of LoRA."""
    return lambda spec, layers: lora(spec, layers, **more)


def alpha(spec: AdapterSpec, layers: Layers) -> dict[str, Any]:
    """LoHa and LoKr."""
    return {"r": spec.rank, "alpha": spec.alpha}


def vera(spec: AdapterSpec, layers: Layers) -> dict[str, Any]:
    """VeRA; its fixed matrices always come from one seed."""
    return {"r": spec.rank, "vera_dropout": _dropout(spec), "projection_prng_key": 0}


def adalora(spec: AdapterSpec, layers: Layers) -> dict[str, Any]:
    """AdaLoRA, but for the number of steps."""
    # The number of steps is known to the training loop alone; ``RankBudget`` puts it in.
    return {
        "init_r": spec.initial_rank,
        "target_r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": _dropout(spec),
        "total_step": 1,
    }


def vblora(spec: AdapterSpec, layers: Layers) -> dict[str, Any]:
    """VB-LoRA; vectors as long as every layer lets them be."""
    from core.models.tuning import layer_sizes

    return {
        "r": spec.rank,
        "num_vectors": spec.vectors,
        "vector_length": spec.vector_length or layer_sizes.vector_length(layers),
        "vblora_dropout": _dropout(spec),
    }


def oft(spec: AdapterSpec, layers: Layers) -> dict[str, Any]:
    """OFT; blocks as large as every layer lets them be."""
    from core.models.tuning import layer_sizes

    return {"r": 0, "oft_block_size": layer_sizes.block_size(layers, spec.block_size)}


def boft(spec: AdapterSpec, layers: Layers) -> dict[str, Any]:
    """BOFT; blocks as large as every layer lets them be."""
    from core.models.tuning import boft as butterfly
    from core.models.tuning import layer_sizes

    butterfly.use_torch()
    factors = spec.butterflies
    assert factors is not None
    return {
        "boft_block_size": layer_sizes.block_size(
            layers, spec.block_size, factors, most=8, even=True
        ),
        "boft_n_butterfly_factor": factors,
    }


def fourierft(spec: AdapterSpec, layers: Layers) -> dict[str, Any]:
    """FourierFT; its places in the spectrum always come from one seed."""
    from core.models.tuning import layer_sizes

    assert spec.frequencies is not None
    layer_sizes.require_frequencies(layers, spec.frequencies)
    return {"n_frequency": spec.frequencies, "scaling": spec.scaling, "random_loc_seed": 0}


def ia3(spec: AdapterSpec, layers: Layers) -> dict[str, Any]:
    """(IA)³, which scales what enters the second layer of an MLP."""
    return {"feedforward_modules": [name for name in layers if name.endswith("fc2")]}


def _dropout(spec: AdapterSpec) -> float:
    return DROPOUT if spec.dropout is None else spec.dropout
