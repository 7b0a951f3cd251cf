"""Adapter folders from elsewhere: what is read of them, and every way in which they are refused."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.errors import ModelError
from core.models.backbones.build import network
from core.models.backbones.registry import backbone_card
from core.models.peft_files import attach as attaching
from core.models.peft_files import read as foreign
from core.models.tuning.apply import merge_adapter, trainable_state

VIT = "timm:test_vit"
EVA = "timm:eva02_tiny_patch14_224"
Made = tuple[Path, nn.Module, nn.Module]


def plain(name: str = VIT, findings: int = 3, size: int = 32) -> Any:
    torch.manual_seed(0)
    model: Any = network(backbone_card(name), findings, size)
    nn.init.normal_(model.get_classifier().weight, std=0.5)
    return model


def pixels(size: int = 32) -> Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


def logits(model: Any, size: int = 32) -> Tensor:
    with torch.inference_mode():
        answer: Tensor = model.eval()(pixels(size))
    return answer


def stir(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


def save(folder: Path, config: Any, model: nn.Module) -> nn.Module:
    """Wrap, move and save an adapter with plain peft; returns what it then computes."""
    wrapped: nn.Module = peft.get_peft_model(model, config)  # type: ignore[arg-type]
    stir(wrapped)
    wrapped.save_pretrained(str(folder), save_embedding_layers=False)  # type: ignore[operator]
    return wrapped


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder as people have them: LoRA on the fused matrix, the head saved with it."""
    folder = tmp_path / "adapter"
    save(folder, peft.LoraConfig(r=4, lora_alpha=8, **FUSED), plain())
    return folder


FUSED: dict[str, Any] = {"target_modules": ["qkv"], "modules_to_save": ["fc_norm", "head"]}


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
def test_what_peft_saved_on_a_plain_model_answers_the_same_here(
    tmp_path: Path, config: Any, method: str
) -> None:
    model = plain()
    wrapped = save(tmp_path / "adapter", config, copy.deepcopy(model))
    adapter = foreign.read(tmp_path / "adapter")
    assert adapter.method == method
    found = attaching.attach(model, adapter)
    assert float((logits(found) - logits(wrapped)).abs().max()) < 1e-5
    assert float((logits(found) - logits(plain())).abs().max()) > 0.05
    attaching.check_supported_modules(found, pixels())
    state = trainable_state(found)
    assert {"head.weight", "head.bias"} <= state.keys()
    merged = merge_adapter(copy.deepcopy(found))
    assert float((logits(found) - logits(merged)).abs().max()) < 1e-5


def rewrite(folder: Path, **changed: Any) -> None:
    file = folder / foreign.CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


def reshape(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    state = load_file(folder / foreign.WEIGHTS)
    change(state)
    save_file(state, folder / foreign.WEIGHTS)


A = "base_model.model.blocks.0.attn.qkv.lora_A.weight"


def narrow(state: dict[str, Tensor]) -> None:
    state[A] = state[A][:2].clone()


class Runs:
    """A pickle that runs code when it is opened."""

    def __reduce__(self) -> Any:
        return print, ("it ran",)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"r": 0}, "r=0, with which it would adapt nothing"),
        ({"r": "4"}, 'r="4"'),
        ({"r": None}, "r=null"),
        ({"lora_alpha": -1}, "lora_alpha=-1"),
        ({"rank_pattern": {"qkv": 0}}, "qkv=0"),
        ({"rank_pattern": {"(a+)+$": 4}}, "rank_pattern that is no table"),
        ({"r": 8}, "rank 8 by its adapter_config.json"),
        ({"peft_type": "PROMPT_TUNING"}, "kind PROMPT_TUNING, which is not read"),
        ({"peft_type": None}, "kind None"),
        ({"init_lora_weights": "pissa"}, "starts from changed weights"),
        ({"bias": "all"}, "uses bias of peft's LoRA"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "uses megatron_config"),
        ({"base_model_name_or_path": "../../secrets"}, "names a file outside its folder: ../../s"),
        ({"target_modules": ["..\\..\\qkv"]}, "names a file outside its folder"),
        ({"auto_mapping": {"parent_library": "/x/../y"}}, "names a file outside its folder"),
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_is_refused(
    saved: Path, changed: dict[str, Any], said: str
) -> None:
    rewrite(saved, **changed)
    with pytest.raises(ModelError) as caught:
        foreign.read(saved)
    assert said in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["..\\evil.safetensors", "adapter_model.safetensors.index.json"])
def test_a_file_name_that_leads_out_of_the_folder_is_refused(saved: Path, name: str) -> None:
    shards = {"weight_map": {A: "../../evil.safetensors"}}
    (saved / name).write_text(json.dumps(shards))
    with pytest.raises(ModelError, match="names a file outside its folder"):
        foreign.read(saved)


def test_shards_and_missing_or_damaged_files_are_refused(saved: Path, tmp_path: Path) -> None:
    for content in ("", "[]", "{", "[" * 100_000, '{"a": "' + "b" * 2_000_000 + '"}'):
        (saved / foreign.CONFIG).write_text(content)
        with pytest.raises(ModelError, match="cannot be read"):
            foreign.read(saved)
    (saved / foreign.CONFIG).unlink()
    for place in (saved, tmp_path / "nowhere", saved / foreign.WEIGHTS):
        with pytest.raises(ModelError, match="no adapter of peft's"):
            foreign.read(place)


def test_weights_are_read_without_running_code(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = load_file(saved / foreign.WEIGHTS)
    (saved / foreign.WEIGHTS).write_bytes((saved / foreign.WEIGHTS).read_bytes()[:-40])
    with pytest.raises(ModelError, match="truncated"):
        foreign.read(saved)
    (saved / foreign.WEIGHTS).unlink()
    with pytest.raises(ModelError, match="has no weights"):
        foreign.read(saved)
    (saved / foreign.PICKLE).write_bytes(pickle.dumps({A: Runs()}, protocol=2))
    with pytest.raises(ModelError, match="would run code"):
        foreign.read(saved)
    torch.save(state | {"more": Runs()}, saved / foreign.PICKLE)
    with pytest.raises(ModelError, match="would run code"):
        foreign.read(saved)
    assert capsys.readouterr().out == ""
    torch.save(state, saved / foreign.PICKLE)
    assert len(foreign.read(saved).layers) == 6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state[A].fill_(float("nan")), "not finite in blocks.0.attn.qkv.lora_A"),
        (lambda state: state.pop(A), "lacks lora_A or lora_B of blocks.0.attn.qkv"),
        (narrow, "shapes contradict each other"),
        (
            lambda state: [state.pop(name) for name in list(state) if "lora" in name],
            "hold no adapted layer",
        ),
    ],
    ids=["nan", "half", "narrow", "head alone"],
)
def test_tensors_that_cannot_be_are_refused(
    saved: Path, change: Callable[[dict[str, Tensor]], Any], said: str
) -> None:
    reshape(saved, change)
    with pytest.raises(ModelError) as caught:
        foreign.read(saved)
    assert said in str(caught.value)


HEAD = "base_model.model.head"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop(f"{HEAD}.bias"), "holds no classifier (head.weight, head.bias)"),
        (
            lambda state: [state.pop(f"{HEAD}.{one}") for one in ("weight", "bias")],
            'modules_to_save=["head"]',
        ),
        (
            lambda state: state.update({f"{HEAD}.{one}": state[f"{HEAD}.{one}"][:2].clone()
                                        for one in ("weight", "bias")}),
            "classifier has 2 outputs, the data set 3 findings",
        ),
        (
            lambda state: state.update({"base_model.model.patch_embed.proj.bias": torch.ones(64)}),
            "also holds patch_embed.proj.bias",
        ),
    ],
    ids=["no bias", "no head", "two outputs", "more"],
)  # fmt: skip
def test_a_classifier_that_does_not_fit_is_refused(
    saved: Path, change: Callable[[dict[str, Tensor]], Any], said: str
) -> None:
    reshape(saved, change)
    with pytest.raises(ModelError) as caught:
        attaching.attach(plain(), foreign.read(saved))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("backbone", "size", "said"),
    [
        ("timm:vit_tiny_patch16_224", 32, "lora_A of blocks.0.attn.qkv has the shape [4, 64], this "
         "backbone needs [4, 192]"),
        ("timm:test_convnext", 64, "it adapts blocks.0.attn.qkv, which ConvNeXt does not have"),
        ("timm:test_resnet", 64, "which ResNet does not have"),
    ],
)  # fmt: skip
def test_an_adapter_made_for_another_backbone_is_refused(
    saved: Path, backbone: str, size: int, said: str
) -> None:
    with pytest.raises(ModelError) as caught:
        attaching.attach(plain(backbone, size=size), foreign.read(saved))
    assert str(caught.value).startswith("The adapter was made for another backbone: ")
    assert said in str(caught.value)


def test_an_adapter_that_its_model_does_not_heed_is_refused(tmp_path: Path) -> None:
    """EVA of timm reads its fused matrix past a LoRA on it: such an adapter has learnt nothing."""
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["qkv"], modules_to_save=["head"])
    save(tmp_path / "adapter", config, plain(EVA, size=28))
    found = attaching.attach(plain(EVA, size=28), foreign.read(tmp_path / "adapter"))
    with pytest.raises(ModelError, match="past the adapter"):
        attaching.check_supported_modules(found, pixels(28))


def test_separate_projections_of_eva_are_found(tmp_path: Path) -> None:
    from core.models.backbones import qkv

    model = plain(EVA, size=28)
    unfused = copy.deepcopy(model)
    qkv.split(unfused)
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], modules_to_save=["head"]
    )
    wrapped = save(tmp_path / "adapter", config, unfused)
    found = attaching.attach(model, foreign.read(tmp_path / "adapter"))
    assert float((logits(found, 28) - logits(wrapped, 28)).abs().max()) < 1e-5
    attaching.check_supported_modules(found, pixels(28))
