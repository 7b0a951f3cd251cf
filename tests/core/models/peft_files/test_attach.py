"""Attaching adapters made elsewhere: equal outputs, or a reason why they do not fit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor

from core.errors import ModelError
from core.models.backbones import qkv
from core.models.backbones.model_map import map_model
from core.models.peft_files.attach import attach_adapter, check_effect
from core.models.peft_files.read import read_adapter
from core.models.tuning.apply import merge_adapter, trainable_state
from tests.support.peft_adapters import (
    FUSED,
    change_weights,
    logits,
    pixels,
    plain_model,
    save_adapter,
    save_fused_lora,
)

EVA = "timm:eva02_tiny_patch14_224"
HEAD = "base_model.model.head"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_fused_lora(tmp_path / "adapter")


@pytest.mark.parametrize(
    ("config", "method"),
    [
        (peft.LoraConfig(r=4, lora_alpha=8, **FUSED), "lora"),
        (peft.LoraConfig(r=4, lora_alpha=8, use_rslora=True, **FUSED), "rslora"),
        (peft.LoraConfig(r=4, lora_alpha=8, use_dora=True, **FUSED), "dora"),
        (
            peft.LoraConfig(
                r=4, lora_alpha=8, rank_pattern={"blocks.1.attn.qkv": 2, "fc1": 3},
                alpha_pattern={"attn.proj": 32}, target_modules=r".*\.(qkv|proj|fc1)",
                exclude_modules=["patch_embed.proj"], modules_to_save=["head"],
            ),
            "lora",
        ),
        (
            peft.IA3Config(
                target_modules=["qkv", "fc2"], feedforward_modules=["fc2"],
                modules_to_save=["head"],
            ),
            "ia3",
        ),
    ],
    ids=["fused", "rslora", "dora", "patterns", "ia3"],
)  # fmt: skip
def test_an_adapter_of_plain_peft_gives_the_same_logits(
    tmp_path: Path, config: Any, method: str
) -> None:
    model = plain_model()
    wrapped = save_adapter(tmp_path / "adapter", config, copy.deepcopy(model))
    adapter = read_adapter(tmp_path / "adapter")
    assert adapter.method == method
    attached = attach_adapter(model, adapter)
    assert float((logits(attached) - logits(wrapped)).abs().max()) < 1e-5
    assert float((logits(attached) - logits(plain_model())).abs().max()) > 0.05
    check_effect(attached, pixels())
    assert {"head.weight", "head.bias"} <= trainable_state(attached).keys()
    merged = merge_adapter(copy.deepcopy(attached))
    assert float((logits(attached) - logits(merged)).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state.pop(f"{HEAD}.bias"),
            "contains no classifier (head.weight, head.bias)",
        ),
        (
            lambda state: [state.pop(f"{HEAD}.{kind}") for kind in ("weight", "bias")],
            'modules_to_save=["head"]',
        ),
        (
            lambda state: state.update({f"{HEAD}.{kind}": state[f"{HEAD}.{kind}"][:2].clone()
                                        for kind in ("weight", "bias")}),
            "classifier has 2 outputs, the data set 3 findings",
        ),
        (
            lambda state: state.update({"base_model.model.patch_embed.proj.bias": torch.ones(64)}),
            "also contains patch_embed.proj.bias",
        ),
    ],
    ids=["no bias", "no head", "two outputs", "more"],
)  # fmt: skip
def test_a_classifier_that_does_not_fit_is_rejected(
    saved: Path, change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    change_weights(saved, change)
    with pytest.raises(ModelError) as caught:
        attach_adapter(plain_model(), read_adapter(saved))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("backbone", "size", "message"),
    [
        ("timm:vit_tiny_patch16_224", 32, "lora_A of blocks.0.attn.qkv has the shape [4, 64], this "
         "backbone needs [4, 192]"),
        ("timm:test_convnext", 64, "it adapts blocks.0.attn.qkv, which ConvNeXt does not have"),
        ("timm:test_resnet", 64, "which ResNet does not have"),
    ],
)  # fmt: skip
def test_an_adapter_made_for_another_backbone_is_rejected(
    saved: Path, backbone: str, size: int, message: str
) -> None:
    with pytest.raises(ModelError) as caught:
        attach_adapter(plain_model(backbone, size=size), read_adapter(saved))
    assert str(caught.value).startswith("The adapter was made for another backbone: ")
    assert message in str(caught.value)


def test_an_adapter_without_effect_is_rejected(tmp_path: Path) -> None:
    """Timm's EVA does not call its fused layer, so a LoRA on it learned nothing."""
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["qkv"], modules_to_save=["head"])
    save_adapter(tmp_path / "adapter", config, plain_model(EVA, size=28))
    attached = attach_adapter(plain_model(EVA, size=28), read_adapter(tmp_path / "adapter"))
    with pytest.raises(ModelError, match="does not call some of the adapted layers"):
        check_effect(attached, pixels(28))


def test_separate_projections_of_eva_are_adapted(tmp_path: Path) -> None:
    model = plain_model(EVA, size=28)
    split = copy.deepcopy(model)
    qkv.split(map_model(split))
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], modules_to_save=["head"]
    )
    wrapped = save_adapter(tmp_path / "adapter", config, split)
    attached = attach_adapter(model, read_adapter(tmp_path / "adapter"))
    assert float((logits(attached, 28) - logits(wrapped, 28)).abs().max()) < 1e-5
    check_effect(attached, pixels(28))
