"""The tuning methods, one entry each.

This module does not import torch, so that the methods can be listed without delay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.config.run import AdapterSpec
from core.errors import unknown_name
from core.models.tuning import peft_configs, search
from core.models.tuning.method import Method, TrainingHook
from core.models.tuning.options import options

if TYPE_CHECKING:
    from torch import nn

    from core.models.backbones.card import BackboneCard
    from core.models.backbones.model_map import ModelMap

HEAD = options("head")
TARGETS = options("targets", "blocks") | HEAD
LOW_RANK = options("rank", "alpha", "dropout") | TARGETS


def _in_norm(_: str, module: nn.Module) -> bool:
    from core.models.backbones.model_map import is_norm

    return is_norm(module)


def _scales_and_shifts(parts: ModelMap, spec: AdapterSpec) -> set[str]:
    from core.models.tuning.ssf import add_scales_and_shifts

    return add_scales_and_shifts(parts)


def _prompts(parts: ModelMap, spec: AdapterSpec) -> set[str]:
    from core.models.tuning.vpt import add_prompts

    assert spec.prompts is not None
    return add_prompts(parts.model, spec.prompts, deep=spec.prompt_depth == "deep")


def _last_blocks(parts: ModelMap, spec: AdapterSpec) -> set[str]:
    from core.models.backbones.blocks import last_block_parameters

    assert spec.last_blocks is not None
    return last_block_parameters(parts, spec.last_blocks)


def _attentive(parts: ModelMap) -> None:
    from core.models.tuning.attentive import install

    install(parts)


def _nearest_neighbours(parts: ModelMap) -> None:
    from core.models.tuning.nearest_neighbours import install

    install(parts)


def _pixel_ridge(card: BackboneCard, findings: int) -> nn.Module:
    from core.models.tuning.pixel_ridge import network

    return network(card, findings)


def _rank_budget(model: nn.Module, spec: AdapterSpec, steps: int) -> TrainingHook:
    from core.models.tuning.adalora import RankBudget

    assert spec.orthogonality is not None
    return RankBudget(model, steps, spec.orthogonality)


def _rate_of_b(spec: AdapterSpec, name: str) -> float:
    assert spec.rate_ratio is not None
    return spec.rate_ratio if ".lora_B." in name else 1.0


TUNING_METHODS: dict[str, Method] = {
    "full": Method(
        name="full",
        title="Full fine-tuning",
        sentence="Trains every parameter of the backbone.",
        options=HEAD,
        trains=lambda name, module: True,
        searches=search.FULL,
    ),
    "linear": Method(
        name="linear",
        title="Linear probe",
        sentence="Trains only the classifier on the features of the frozen backbone.",
        paper="Alain & Bengio 2016 (arXiv 1610.01644)",
        options=HEAD,
        searches=search.LINEAR,
    ),
    "lora": Method(
        name="lora",
        title="LoRA",
        sentence="Adds trainable low-rank matrices B·A to the chosen layers, by default the query "
        "and value projections. The replicated paper uses this method.",
        paper="Hu et al. 2022 (arXiv 2106.09685)",
        options=LOW_RANK,
        config="LoraConfig",
        arguments=peft_configs.lora,
        searches=search.LORA,
    ),
    "rslora": Method(
        name="rslora",
        title="rsLoRA",
        sentence="LoRA with the update scaled by alpha / √r instead of alpha / r, so that high "
        "ranks do not learn more slowly.",
        paper="Kalajdzievski 2023 (arXiv 2312.03732)",
        options=LOW_RANK,
        config="LoraConfig",
        arguments=peft_configs.lora_variant(use_rslora=True),
        searches=search.RSLORA,
    ),
    "dora": Method(
        name="dora",
        title="DoRA",
        sentence="Splits each weight into direction and magnitude: LoRA updates the direction, "
        "and the magnitude trains directly.",
        paper="Liu et al. 2024 (arXiv 2402.09353)",
        options=LOW_RANK,
        config="LoraConfig",
        arguments=peft_configs.lora_variant(use_dora=True),
        searches=search.PRODUCT,
    ),
    "pissa": Method(
        name="pissa",
        title="PiSSA",
        sentence="LoRA whose matrices are initialised with the largest singular values and "
        "vectors of each weight.",
        paper="Meng et al. 2024 (arXiv 2404.02948)",
        options=LOW_RANK,
        config="LoraConfig",
        arguments=peft_configs.lora_variant(init_lora_weights="pissa"),
        kind="linear",
        searches=search.INITIALISED,
    ),
    "olora": Method(
        name="olora",
        title="OLoRA",
        sentence="LoRA whose matrices are initialised with the QR decomposition of each weight.",
        paper="Büyükakyüz 2024 (arXiv 2406.01775)",
        options=LOW_RANK,
        config="LoraConfig",
        arguments=peft_configs.lora_variant(init_lora_weights="olora"),
        kind="linear",
        searches=search.INITIALISED,
    ),
    "lora+": Method(
        name="lora+",
        title="LoRA+",
        sentence="LoRA with a higher learning rate for matrix B than for matrix A.",
        paper="Hayou et al. 2024 (arXiv 2402.12354)",
        options=LOW_RANK | options("rate_ratio"),
        config="LoraConfig",
        arguments=peft_configs.lora,
        rates=_rate_of_b,
        searches=search.LORA_PLUS,
    ),
    "lora-fa": Method(
        name="lora-fa",
        title="LoRA-FA",
        sentence="LoRA that trains only matrix B; matrix A keeps its random initial values.",
        paper="Zhang et al. 2023 (arXiv 2308.03303)",
        options=LOW_RANK,
        config="LoraConfig",
        arguments=peft_configs.lora,
        freezes=".lora_A.",
        searches=search.PRODUCT,
    ),
    "adalora": Method(
        name="adalora",
        title="AdaLoRA",
        sentence="LoRA with a rank budget: each layer starts with a higher rank, and training "
        "removes the least important ranks until their mean over the layers is r.",
        paper="Zhang et al. 2023 (arXiv 2303.10512)",
        options=LOW_RANK | options("initial_rank", "orthogonality"),
        config="AdaLoraConfig",
        freezes=".ranknum.",
        arguments=peft_configs.adalora,
        hook=_rank_budget,
        searches=search.ADALORA,
    ),
    "loha": Method(
        name="loha",
        title="LoHa",
        sentence="Adds a trainable update that is the elementwise (Hadamard) product of two "
        "low-rank matrices.",
        paper="Hyeon-Woo et al. 2022 (arXiv 2108.06098)",
        options=options("rank", "alpha") | TARGETS,
        config="LoHaConfig",
        arguments=peft_configs.rank_and_alpha,
        searches=search.PRODUCT,
    ),
    "lokr": Method(
        name="lokr",
        title="LoKr",
        sentence="Adds a trainable update that is the Kronecker product of a small matrix and a "
        "low-rank matrix.",
        paper="Yeh et al. 2024 (arXiv 2309.14859)",
        options=options("rank", "alpha") | TARGETS,
        config="LoKrConfig",
        arguments=peft_configs.rank_and_alpha,
        searches=search.PRODUCT,
    ),
    "vera": Method(
        name="vera",
        title="VeRA",
        sentence="LoRA with two fixed random matrices that all layers share; only scaling vectors "
        "of each layer train.",
        paper="Kopiczko et al. 2024 (arXiv 2310.11454)",
        options=options("rank", "dropout") | TARGETS,
        config="VeraConfig",
        arguments=peft_configs.vera,
        kind="linear",
        searches=search.VERA,
    ),
    "vblora": Method(
        name="vblora",
        title="VB-LoRA",
        sentence="LoRA whose matrices are composed of vectors from one trainable bank that all "
        "layers share. Before training, its outputs differ from the backbone's.",
        paper="Li et al. 2024 (arXiv 2405.15179)",
        options=options("rank", "dropout") | TARGETS | options("vectors", "vector_length"),
        config="VBLoRAConfig",
        arguments=peft_configs.vblora,
        kind="linear",
        starts_as_backbone=False,
        searches=search.VBLORA,
    ),
    "oft": Method(
        name="oft",
        title="OFT",
        sentence="Multiplies each weight by a trainable block-diagonal rotation, which preserves "
        "the angles between the rows of the weight.",
        paper="Qiu et al. 2023 (arXiv 2306.07280)",
        options=TARGETS | options("block_size"),
        config="OFTConfig",
        arguments=peft_configs.oft,
        kind="pointwise",
        searches=search.ROTATION,
    ),
    "boft": Method(
        name="boft",
        title="BOFT",
        sentence="OFT with a rotation that is a product of sparse butterfly factors, and a "
        "trainable scale of each output.",
        paper="Liu et al. 2024 (arXiv 2311.06243)",
        options=TARGETS | options("block_size", "butterflies"),
        config="BOFTConfig",
        arguments=peft_configs.boft,
        kind="pointwise",
        searches=search.ROTATION,
    ),
    "fourierft": Method(
        name="fourierft",
        title="FourierFT",
        sentence="Trains a few Fourier coefficients of the update of each weight. Before "
        "training, its outputs differ from the backbone's.",
        paper="Gao et al. 2024 (arXiv 2405.03003)",
        options=TARGETS | options("frequencies", "scaling"),
        config="FourierFTConfig",
        arguments=peft_configs.fourierft,
        kind="linear",
        starts_as_backbone=False,
        searches=search.FOURIER,
    ),
    "ia3": Method(
        name="ia3",
        title="(IA)³",
        sentence="Trains one scale per channel of the keys, the values and the hidden layer of "
        "the MLP.",
        paper="Liu et al. 2022 (arXiv 2205.05638)",
        options=options("blocks") | HEAD,
        config="IA3Config",
        arguments=peft_configs.ia3,
        parts=("k", "v", "mlp"),
        skips=("fc1", "fc1_g", "fc1_x"),
        searches=search.FEW,
    ),
    "bitfit": Method(
        name="bitfit",
        title="BitFit",
        sentence="Trains only the biases.",
        paper="Ben Zaken et al. 2022 (arXiv 2106.10199)",
        options=HEAD,
        trains=lambda name, module: name.endswith("bias"),
        searches=search.FEW,
    ),
    "ln-tuning": Method(
        name="ln-tuning",
        title="Norm tuning",
        sentence="Trains only the scale and shift of the normalisation layers.",
        paper="Zhao et al. 2024 (arXiv 2312.11420)",
        options=HEAD,
        trains=_in_norm,
        searches=search.FEW,
    ),
    "ssf": Method(
        name="ssf",
        title="SSF",
        sentence="Adds a trainable scale and shift to each output channel of every layer of the "
        "backbone.",
        paper="Lian et al. 2022 (arXiv 2210.08823)",
        options=HEAD,
        prepare=_scales_and_shifts,
        searches=search.FEW,
    ),
    "vpt": Method(
        name="vpt",
        title="Visual prompts",
        sentence="Adds trainable tokens to the patch tokens of the blocks. Before training, its "
        "outputs differ from the backbone's.",
        paper="Jia et al. 2022 (arXiv 2203.12119)",
        options=options("prompts", "prompt_depth") | HEAD,
        prepare=_prompts,
        starts_as_backbone=False,
        merges=False,
        searches=search.PROMPTS,
    ),
    "last-k": Method(
        name="last-k",
        title="Last blocks",
        sentence="Trains only the last blocks of the backbone.",
        options=options("last_blocks") | HEAD,
        prepare=_last_blocks,
        searches=search.LAST_BLOCKS,
    ),
    "attentive": Method(
        name="attentive",
        title="Attentive probe",
        sentence="Trains only a head in which one query per finding pools the tokens of the frozen "
        "backbone by cross-attention. Before training, its outputs differ from the backbone's.",
        paper="Psomas et al. 2025 (arXiv 2506.10178)",
        head=_attentive,
        starts_as_backbone=False,
        merges=False,
        searches=search.ATTENTIVE,
    ),
    "logistic": Method(
        name="logistic",
        title="Logistic regression",
        sentence="Fits a logistic regression per finding on the standardised features of the "
        "frozen backbone, its penalty chosen on the validation split. It has no epochs.",
        paper="scikit-learn, Pedregosa et al. 2011 (JMLR 12)",
    ),
    "knn": Method(
        name="knn",
        title="k nearest neighbours",
        sentence="Predicts the weighted share of positives among the training studies with the "
        "most similar features; k and temperature are chosen on the validation split. It has no "
        "epochs.",
        paper="Wu et al. 2018 (arXiv 1805.01978)",
        head=_nearest_neighbours,
        starts_as_backbone=False,
        merges=False,
    ),
    "pixels": Method(
        name="pixels",
        title="Ridge on pixels",
        sentence="Fits a ridge regression on 32 × 32 grey values, without any backbone: the "
        "baseline that another method has to beat. It has no epochs.",
        paper="Hoerl & Kennard 1970 (Technometrics 12)",
        network=_pixel_ridge,
        starts_as_backbone=False,
        merges=False,
    ),
}
"""The methods by name, in the order in which they are listed."""


def tuning_method(name: str) -> Method:
    """Look up a method.

    Args:
        name: A key of ``TUNING_METHODS``.

    Raises:
        ConfigurationError: There is no method of this name; the message lists similar names.
    """
    if name not in TUNING_METHODS:
        raise unknown_name("method", name, TUNING_METHODS, field="adapter.method")
    return TUNING_METHODS[name]
