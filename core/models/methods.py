"""The ways to tune a backbone, one entry each.

Nothing here imports torch, so that the methods can be listed at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.errors import unknown_name
from core.spec import DROPOUT, AdapterSpec

if TYPE_CHECKING:
    from torch import nn

Arguments = Callable[[AdapterSpec], dict[str, Any]]
LOW_RANK = ("rank", "alpha", "dropout", "targets")


@dataclass(frozen=True)
class Method:
    """A way to tune a backbone.

    Attributes:
        name: Its name in ``METHODS``.
        title: Its name for people.
        sentence: What it does.
        paper: Where it is described; empty where it is common practice.
        options: Fields of ``AdapterSpec`` that it heeds.
        trains: Which parameters of the backbone train, by name and by the module they belong to;
            None trains none of them.
        config: Name of the configuration class in peft, where the method is one of peft's.
        arguments: What that class is given.
        parts: Parts of the blocks that are adapted, where the user cannot choose them.
    """

    name: str
    title: str
    sentence: str
    paper: str = ""
    options: tuple[str, ...] = ()
    trains: Callable[[str, nn.Module], bool] | None = field(default=None, repr=False)
    config: str | None = field(default=None, repr=False)
    arguments: Arguments = field(default=lambda spec: {}, repr=False)
    parts: tuple[str, ...] = field(default=(), repr=False)


def _lora(spec: AdapterSpec, **more: Any) -> dict[str, Any]:
    return {"r": spec.rank, "lora_alpha": spec.alpha, "lora_dropout": _dropout(spec), **more}


def _dropout(spec: AdapterSpec) -> float:
    return DROPOUT if spec.dropout is None else spec.dropout


def _is_norm(_: str, module: nn.Module) -> bool:
    return "Norm" in type(module).__name__


METHODS: dict[str, Method] = {
    "full": Method(
        name="full",
        title="Full fine-tuning",
        sentence="Every parameter of the backbone trains.",
        trains=lambda name, module: True,
    ),
    "linear": Method(
        name="linear",
        title="Linear probe",
        sentence="The backbone stays as it is; only the classifier on its features trains.",
        paper="Alain & Bengio 2016 (arXiv 1610.01644)",
    ),
    "lora": Method(
        name="lora",
        title="LoRA",
        sentence="A low-rank update B·A beside each chosen projection trains; the study's method.",
        paper="Hu et al. 2022 (arXiv 2106.09685)",
        options=LOW_RANK,
        config="LoraConfig",
        arguments=_lora,
    ),
    "rslora": Method(
        name="rslora",
        title="rsLoRA",
        sentence="LoRA scaled by alpha / √r, so that high ranks do not learn more slowly.",
        paper="Kalajdzievski 2023 (arXiv 2312.03732)",
        options=LOW_RANK,
        config="LoraConfig",
        arguments=lambda spec: _lora(spec, use_rslora=True),
    ),
    "dora": Method(
        name="dora",
        title="DoRA",
        sentence="LoRA on the direction of each weight, its length trained apart.",
        paper="Liu et al. 2024 (arXiv 2402.09353)",
        options=LOW_RANK,
        config="LoraConfig",
        arguments=lambda spec: _lora(spec, use_dora=True),
    ),
    "pissa": Method(
        name="pissa",
        title="PiSSA",
        sentence="LoRA that starts from the largest singular vectors of each weight.",
        paper="Meng et al. 2024 (arXiv 2404.02948)",
        options=LOW_RANK,
        config="LoraConfig",
        arguments=lambda spec: _lora(spec, init_lora_weights="pissa"),
    ),
    "loha": Method(
        name="loha",
        title="LoHa",
        sentence="The update is the elementwise product of two low-rank matrices.",
        paper="Hyeon-Woo et al. 2022 (arXiv 2108.06098)",
        options=("rank", "alpha", "targets"),
        config="LoHaConfig",
        arguments=lambda spec: {"r": spec.rank, "alpha": spec.alpha},
    ),
    "lokr": Method(
        name="lokr",
        title="LoKr",
        sentence="The update is a Kronecker product of a small and a low-rank matrix.",
        paper="Yeh et al. 2024 (arXiv 2309.14859)",
        options=("rank", "alpha", "targets"),
        config="LoKrConfig",
        arguments=lambda spec: {"r": spec.rank, "alpha": spec.alpha},
    ),
    "vera": Method(
        name="vera",
        title="VeRA",
        sentence="Two random matrices shared by all layers stay fixed; only scales of them train.",
        paper="Kopiczko et al. 2024 (arXiv 2310.11454)",
        options=("rank", "dropout", "targets"),
        config="VeraConfig",
        arguments=lambda spec: {
            "r": spec.rank,
            "vera_dropout": _dropout(spec),
            "projection_prng_key": 0,
        },
    ),
    "ia3": Method(
        name="ia3",
        title="(IA)³",
        sentence="One scale a channel of key, value and the MLP's hidden layer trains.",
        paper="Liu et al. 2022 (arXiv 2205.05638)",
        config="IA3Config",
        parts=("k", "v", "mlp"),
    ),
    "bitfit": Method(
        name="bitfit",
        title="BitFit",
        sentence="Only the biases train.",
        paper="Ben Zaken et al. 2022 (arXiv 2106.10199)",
        trains=lambda name, module: name.endswith("bias"),
    ),
    "ln-tuning": Method(
        name="ln-tuning",
        title="Norm tuning",
        sentence="Only scale and shift of the normalisation layers train.",
        paper="Zhao et al. 2024 (arXiv 2312.11420)",
        trains=_is_norm,
    ),
}
"""The methods by name, in the order in which they are offered."""


def method(name: str) -> Method:
    """Look up a method.

    Raises:
        ConfigurationError: There is none of that name; the nearest known ones are told.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS, field="adapter.method")
    return METHODS[name]
