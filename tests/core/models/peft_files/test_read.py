"""Reading adapter folders made elsewhere: every folder that must be rejected."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from core.errors import ModelError
from core.models.peft_files.read import CONFIG, PICKLE, WEIGHTS, read_adapter
from tests.support.peft_adapters import change_config, change_weights, save_fused_lora

A = "base_model.model.blocks.0.attn.qkv.lora_A.weight"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_fused_lora(tmp_path / "adapter")


class RunsCode:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return print, ("it ran",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 0}, "r=0, with which it has no effect"),
        ({"r": "4"}, 'r="4"'),
        ({"r": None}, "r=null"),
        ({"lora_alpha": -1}, "lora_alpha=-1"),
        ({"rank_pattern": {"qkv": 0}}, "qkv=0"),
        ({"rank_pattern": {"(a+)+$": 4}}, "rank_pattern that is not a table"),
        ({"r": 8}, "its adapter_config.json gives rank 8"),
        ({"peft_type": "PROMPT_TUNING"}, "type PROMPT_TUNING, which cannot be imported"),
        ({"peft_type": None}, "type None"),
        ({"init_lora_weights": "pissa"}, "starts from changed weights"),
        ({"bias": "all"}, "uses the option bias of peft's LoRA"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "uses the option megatron_config"),
        ({"base_model_name_or_path": "../../secrets"}, "names a file outside its folder: ../../s"),
        ({"target_modules": ["..\\..\\qkv"]}, "names a file outside its folder"),
        ({"auto_mapping": {"parent_library": "/x/../y"}}, "names a file outside its folder"),
    ],
    ids=str,
)
def test_an_invalid_configuration_is_rejected(
    saved: Path, changes: dict[str, Any], message: str
) -> None:
    change_config(saved, **changes)
    with pytest.raises(ModelError) as caught:
        read_adapter(saved)
    assert message in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["..\\evil.safetensors", "adapter_model.safetensors.index.json"])
def test_a_file_name_that_leads_out_of_the_folder_is_rejected(saved: Path, name: str) -> None:
    shards = {"weight_map": {A: "../../evil.safetensors"}}
    (saved / name).write_text(json.dumps(shards))
    with pytest.raises(ModelError, match="names a file outside its folder"):
        read_adapter(saved)


def test_missing_and_damaged_configurations_are_rejected(saved: Path, tmp_path: Path) -> None:
    for content in ("", "[]", "{", "[" * 100_000, '{"a": "' + "b" * 2_000_000 + '"}'):
        (saved / CONFIG).write_text(content)
        with pytest.raises(ModelError, match="cannot be read"):
            read_adapter(saved)
    (saved / CONFIG).unlink()
    for folder in (saved, tmp_path / "nowhere", saved / WEIGHTS):
        with pytest.raises(ModelError, match="not an adapter folder of peft"):
            read_adapter(folder)


def test_weights_are_read_without_running_code(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = load_file(saved / WEIGHTS)
    (saved / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes()[:-40])
    with pytest.raises(ModelError, match="truncated"):
        read_adapter(saved)
    (saved / WEIGHTS).unlink()
    with pytest.raises(ModelError, match="has no weights"):
        read_adapter(saved)
    (saved / PICKLE).write_bytes(pickle.dumps({A: RunsCode()}, protocol=2))
    with pytest.raises(ModelError, match="would run code"):
        read_adapter(saved)
    torch.save(state | {"more": RunsCode()}, saved / PICKLE)
    with pytest.raises(ModelError, match="would run code"):
        read_adapter(saved)
    assert capsys.readouterr().out == ""
    torch.save(state, saved / PICKLE)
    assert len(read_adapter(saved).layers) == 6


def cut_rank(state: dict[str, Tensor]) -> None:
    state[A] = state[A][:2].clone()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state[A].fill_(float("nan")), "not finite in blocks.0.attn.qkv.lora_A"),
        (lambda state: state.pop(A), "lacks lora_A or lora_B of blocks.0.attn.qkv"),
        (cut_rank, "The adapter is inconsistent"),
        (
            lambda state: [state.pop(name) for name in list(state) if "lora" in name],
            "contain no adapted layer",
        ),
    ],
    ids=["nan", "half", "cut rank", "head alone"],
)
def test_invalid_tensors_are_rejected(
    saved: Path, change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    change_weights(saved, change)
    with pytest.raises(ModelError) as caught:
        read_adapter(saved)
    assert message in str(caught.value)
