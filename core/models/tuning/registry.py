"""The ways to tune a backbone, one entry each.

Nothing here imports torch, so that the methods can be listed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from core.config.run import AdapterSpec
from core.errors import unknown_name
from core.models.tuning import peft_configs
from core.models.tuning.options import Option, options
from core.models.tuning.peft_configs import Arguments

if TYPE_CHECKING:
    from torch import Tensor, nn

Kind = Literal["linear", "pointwise", "convolution"]

PLACES = options("targets", "blocks")
LOW_RANK = options("rank", "alpha", "dropout", "targets", "blocks")


class TrainingHook(Protocol):
    """What a method does beside the steps of the one training loop."""

    def penalty(self) -> Tensor:
        """What is added to the loss, a scalar."""

    def after_step(self, step: int) -> None:
        """Called after each optimizer step, counted from 1, while the gradients still stand."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to hold of it: tensors, numbers, texts, lists and dicts of them."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave."""


@dataclass(frozen=True)
class Method:
    """A way to tune a backbone.

    Attributes:
        name: Its name in ``METHODS``.
        title: Its name for people.
        sentence: What it does.
        paper: Where it is described; empty where it is common practice.
        options: Fields of ``AdapterSpec`` that it heeds, as a form offers them.
        trains: Which parameters of the backbone train, by name and by the module they belong to;
            None trains none of them.
        prepare: Changes the model in place, for methods that are not peft's; called before
            anything is frozen, and gives the names of the parameters that shall train.
        config: Name of the configuration class in peft, where the method is one of peft's.
        arguments: What that class is given.
        kind: Which layers it can adapt: linear ones, also 1 × 1 convolutions, or any convolution.
        parts: Parts of the blocks that are adapted, where the user cannot choose them.
        spares: Layers of these parts that are left as they are, by the last part of their names.
        freezes: A part of an adapter that keeps its first values, by a piece of its name.
        rates: Factor of the learning rate of a parameter, by its name.
        companion: Makes what stands beside the training loop, for a run of so many steps.
        starts_as_backbone: Whether the tuned model answers like the backbone before its first step.
        merges: Whether it can be worked into the backbone's own weights.
    """

    name: str
    title: str
    sentence: str
    paper: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)
    trains: Callable[[str, nn.Module], bool] | None = field(default=None, repr=False)
    prepare: Callable[[nn.Module, AdapterSpec], set[str]] | None = field(default=None, repr=False)
    config: str | None = field(default=None, repr=False)
    arguments: Arguments = field(default=lambda spec, layers: {}, repr=False)
    kind: Kind = "convolution"
    parts: tuple[str, ...] = field(default=(), repr=False)
    spares: tuple[str, ...] = field(default=(), repr=False)
    freezes: str | None = field(default=None, repr=False)
    rates: Callable[[AdapterSpec, str], float] | None = field(default=None, repr=False)
    companion: Callable[[nn.Module, AdapterSpec, int], TrainingHook] | None = field(
        default=None, repr=False
    )
    starts_as_backbone: bool = True
    merges: bool = True


def _is_norm(_: str, module: nn.Module) -> bool:
    return "Norm" in type(module).__name__


def _scale_and_shift(model: nn.Module, spec: AdapterSpec) -> set[str]:
    from core.models.tuning import ssf

    return ssf.scale_and_shift(model)


def _prompts(model: nn.Module, spec: AdapterSpec) -> set[str]:
    from core.models.tuning import vpt

    assert spec.prompts is not None
    return vpt.add(model, spec.prompts, deep=spec.prompt_depth == "deep")


def _last_blocks(model: nn.Module, spec: AdapterSpec) -> set[str]:
    from core.models.backbones import blocks

    assert spec.last_blocks is not None
    return blocks.of_the_last(model, spec.last_blocks)


def _rank_budget(model: nn.Module, spec: AdapterSpec, steps: int) -> TrainingHook:
    from core.models.tuning.adalora import RankBudget

    assert spec.orthogonality is not None
    return RankBudget(model, steps, spec.orthogonality)


def _faster_b(spec: AdapterSpec, name: str) -> float:
    assert spec.rate_ratio is not None
    return spec.rate_ratio if ".lora_B." in name else 1.0


TUNING_METHODS: dict[str, Method] = {
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
        arguments=peft_configs.lora,
    ),
    "rslora": Method(
        name="rslora",
        title="rsLoRA",
        sentence="LoRA scaled by alpha / √r, so that high ranks do not learn more slowly.",
        paper="Kalajdzievski 2023 (arXiv 2312.03732)",
        options=LOW_RANK,
        config="LoraConfig",
        arguments=peft_configs.like_lora(use_rslora=True),
    ),
    "dora": Method(
        name="dora",
        title="DoRA",
        sentence="LoRA on the direction of each weight, its length trained apart.",
        paper="Liu et al. 2024 (arXiv 2402.09353)",
        options=LOW_RANK,
        config="LoraConfig",
        arguments=peft_configs.like_lora(use_dora=True),
    ),
    "pissa": Method(
        name="pissa",
        title="PiSSA",
        sentence="LoRA that starts from the largest singular vectors of each weight.",
        paper="Meng et al. 2024 (arXiv 2404.02948)",
        options=LOW_RANK,
        config="LoraConfig",
        arguments=peft_configs.like_lora(init_lora_weights="pissa"),
        kind="linear",
    ),
    "olora": Method(
        name="olora",
        title="OLoRA",
        sentence="LoRA that starts from the orthogonal factors (QR) of each weight.",
        paper="Büyükakyüz 2024 (arXiv 2406.01775)",
        options=LOW_RANK,
        config="LoraConfig",
        arguments=peft_configs.like_lora(init_lora_weights="olora"),
        kind="linear",
    ),
    "lora+": Method(
        name="lora+",
        title="LoRA+",
        sentence="LoRA whose B learns faster than its A.",
        paper="Hayou et al. 2024 (arXiv 2402.12354)",
        options=LOW_RANK | options("rate_ratio"),
        config="LoraConfig",
        arguments=peft_configs.lora,
        rates=_faster_b,
    ),
    "lora-fa": Method(
        name="lora-fa",
        title="LoRA-FA",
        sentence="LoRA whose A keeps its random first values; only B trains.",
        paper="Zhang et al. 2023 (arXiv 2308.03303)",
        options=LOW_RANK,
        config="LoraConfig",
        arguments=peft_configs.lora,
        freezes=".lora_A.",
    ),
    "adalora": Method(
        name="adalora",
        title="AdaLoRA",
        sentence="The ranks of the layers shrink in training, where they matter least, to a mean.",
        paper="Zhang et al. 2023 (arXiv 2303.10512)",
        options=LOW_RANK | options("initial_rank", "orthogonality"),
        config="AdaLoraConfig",
        freezes=".ranknum.",
        arguments=peft_configs.adalora,
        companion=_rank_budget,
    ),
    "loha": Method(
        name="loha",
        title="LoHa",
        sentence="The update is the elementwise product of two low-rank matrices.",
        paper="Hyeon-Woo et al. 2022 (arXiv 2108.06098)",
        options=options("rank", "alpha", "targets", "blocks"),
        config="LoHaConfig",
        arguments=peft_configs.alpha,
    ),
    "lokr": Method(
        name="lokr",
        title="LoKr",
        sentence="The update is a Kronecker product of a small and a low-rank matrix.",
        paper="Yeh et al. 2024 (arXiv 2309.14859)",
        options=options("rank", "alpha", "targets", "blocks"),
        config="LoKrConfig",
        arguments=peft_configs.alpha,
    ),
    "vera": Method(
        name="vera",
        title="VeRA",
        sentence="Two random matrices shared by all layers stay fixed; only scales of them train.",
        paper="Kopiczko et al. 2024 (arXiv 2310.11454)",
        options=options("rank", "dropout", "targets", "blocks"),
        config="VeraConfig",
        arguments=peft_configs.vera,
        kind="linear",
    ),
    "vblora": Method(
        name="vblora",
        title="VB-LoRA",
        sentence="LoRA mixed from one bank of vectors that all layers share. It does not start as "
        "the backbone.",
        paper="Li et al. 2024 (arXiv 2405.15179)",
        options=options("rank", "dropout", "targets", "blocks", "vectors", "vector_length"),
        config="VBLoRAConfig",
        arguments=peft_configs.vblora,
        kind="linear",
        starts_as_backbone=False,
    ),
    "oft": Method(
        name="oft",
        title="OFT",
        sentence="Each weight is rotated, block by block; angles between its rows stay.",
        paper="Qiu et al. 2023 (arXiv 2306.07280)",
        options=PLACES | options("block_size"),
        config="OFTConfig",
        arguments=peft_configs.oft,
        kind="pointwise",
    ),
    "boft": Method(
        name="boft",
        title="BOFT",
        sentence="OFT whose rotation is a product of sparse butterflies, and which scales outputs.",
        paper="Liu et al. 2024 (arXiv 2311.06243)",
        options=PLACES | options("block_size", "butterflies"),
        config="BOFTConfig",
        arguments=peft_configs.boft,
        kind="pointwise",
    ),
    "fourierft": Method(
        name="fourierft",
        title="FourierFT",
        sentence="A few Fourier coefficients of each weight's update train. It does not start as "
        "the backbone.",
        paper="Gao et al. 2024 (arXiv 2405.03003)",
        options=PLACES | options("frequencies", "scaling"),
        config="FourierFTConfig",
        arguments=peft_configs.fourierft,
        kind="linear",
        starts_as_backbone=False,
    ),
    "ia3": Method(
        name="ia3",
        title="(IA)³",
        sentence="One scale a channel of key, value and the MLP's hidden layer trains.",
        paper="Liu et al. 2022 (arXiv 2205.05638)",
        options=options("blocks"),
        config="IA3Config",
        arguments=peft_configs.ia3,
        parts=("k", "v", "mlp"),
        spares=("fc1", "fc1_g", "fc1_x"),
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
    "ssf": Method(
        name="ssf",
        title="SSF",
        sentence="A scale and a shift for each channel behind every layer of the backbone train.",
        paper="Lian et al. 2022 (arXiv 2210.08823)",
        prepare=_scale_and_shift,
    ),
    "vpt": Method(
        name="vpt",
        title="Visual prompts",
        sentence="Tokens beside the patches train. It does not start as the backbone.",
        paper="Jia et al. 2022 (arXiv 2203.12119)",
        options=options("prompts", "prompt_depth"),
        prepare=_prompts,
        starts_as_backbone=False,
        merges=False,
    ),
    "last-k": Method(
        name="last-k",
        title="Last blocks",
        sentence="The last blocks train, the ones before them stay.",
        options=options("last_blocks"),
        prepare=_last_blocks,
    ),
}
"""The methods by name, in the order in which they are offered."""


def tuning_method(name: str) -> Method:
    """Look up a method.

    Raises:
        ConfigurationError: There is none of that name; the nearest known ones are told.
    """
    if name not in TUNING_METHODS:
        raise unknown_name("method", name, TUNING_METHODS, field="adapter.method")
    return TUNING_METHODS[name]
