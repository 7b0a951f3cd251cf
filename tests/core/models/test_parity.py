"""Equality with the numbers of the published implementation (see ``golden/README.md``).

Largest difference over both checkpoints, on a CPU in float32 with one thread (``python -m core
models check FILE --against golden/reference.safetensors`` prints the first four):

| what | allowed | reached |
|---|---|---|
| logits | 1e-5 | 8.3e-7 |
| logits at 96 px, positions interpolated | 1e-4 | 7.2e-7 |
| logits with LoRA on q and v, active | 1e-5 | 8.3e-7 |
| logits with LoRA on q and v, merged | 1e-5 | 8.3e-7 |
| ten losses, everything, SGD | 1e-5 | 6.0e-8 |
| ten losses, everything, AdamW with layer decay | 1e-5 | 6.0e-8 |
| ten losses, LoRA with fc_norm and head, SGD | 1e-5 | 6.0e-8 |
| learning rate at nine points of the schedule | exact | exact |
| layer-decay groups of ViT-B/16 | exact | exact |
| trainable and all parameters at r 4, 8, 16, 32 | exact | exact |
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from core.config.run import AdapterSpec
from core.errors import ModelError
from core.models import parity
from core.models.backbones.build import build_backbone, network
from core.models.backbones.card import BackboneCard
from core.models.backbones.model_map import map_model
from core.models.backbones.registry import BACKBONES
from core.models.tuning.apply import apply_method, count_parameters, merge_adapter, parameter_groups
from core.training import schedule
from tests.support import paths

GOLDEN = paths.GOLDEN / "models"
REFERENCE: dict[str, Any] = json.loads((GOLDEN / "reference.json").read_text())
LORA = AdapterSpec(method="lora", rank=4, alpha=32, dropout=0.0, targets="qv")
CHECKPOINTS = ["mrm_tiny.pth", "cxr_mae_tiny.pth"]


def small(name: str) -> BackboneCard:
    """The card of the paper's backbone, reduced to the size of the golden checkpoints."""
    config = REFERENCE["config"]
    return replace(
        BACKBONES["mrm" if name.startswith("mrm") else "cxr-mae"],
        input_size=config["img_size"],
        arguments={key: config[key] for key in ("embed_dim", "depth", "num_heads")},
    )


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "reference.safetensors")


def loaded(golden: dict[str, Tensor], name: str = CHECKPOINTS[0], size: int | None = None) -> Any:
    model, report = build_backbone(small(name), 14, weights=GOLDEN / name, input_size=size)
    put(model, {key: golden[key] for key in HEAD})
    assert set(report.missing) == set(HEAD)
    return model.eval()


HEAD = ("fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias")


def put(model: nn.Module, values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            model.get_parameter(name).copy_(value)


def with_lora(golden: dict[str, Tensor], name: str = CHECKPOINTS[0]) -> Any:
    model = apply_method(loaded(golden, name), LORA)
    put(
        model,
        {
            f"{key.replace('.q.', '.attn.qkv.q.').replace('.v.', '.attn.qkv.v.')}.default.weight": v
            for key, v in golden.items()
            if "lora" in key and key.startswith("blocks")
        },
    )
    return model


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_logits(name: str, golden: dict[str, Tensor]) -> None:
    with torch.inference_mode():
        assert distance(loaded(golden, name)(golden["x"]), golden["logits_fft"]) <= 1e-5


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_logits_at_another_size(name: str, golden: dict[str, Tensor]) -> None:
    with torch.inference_mode():
        assert distance(loaded(golden, name, 96)(golden["x96"]), golden["logits_fft_96"]) <= 1e-4


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_logits_with_lora_active_and_merged(name: str, golden: dict[str, Tensor]) -> None:
    model = with_lora(golden, name)
    with torch.inference_mode():
        assert distance(model(golden["x"]), golden["logits_lora"]) <= 1e-5
    merged = merge_adapter(model)
    assert merged.state_dict().keys() == loaded(golden, name).state_dict().keys()
    with torch.inference_mode():
        assert distance(merged(golden["x"]), golden["logits_lora"]) <= 1e-5


def ten_steps(model: nn.Module, optimizer: torch.optim.Optimizer, golden: Any) -> list[float]:
    model.train()
    losses = []
    for _ in range(10):
        loss = binary_cross_entropy_with_logits(model(golden["x"]), golden["y"])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def groups(model: nn.Module, **more: Any) -> list[dict[str, Any]]:
    settings = {"lr": 0.01, "weight_decay": 0.0, "layer_decay": 1.0} | more
    return parameter_groups(model, **settings)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_ten_steps_of_full_fine_tuning_with_sgd(name: str, golden: dict[str, Tensor]) -> None:
    model = apply_method(loaded(golden, name), AdapterSpec(method="full"))
    optimizer = torch.optim.SGD(groups(model), momentum=0.9)
    assert ten_steps(model, optimizer, golden) == pytest.approx(
        REFERENCE["loss_fft_sgd"], abs=1e-5, rel=0
    )


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_ten_steps_of_full_fine_tuning_with_adamw(name: str, golden: dict[str, Tensor]) -> None:
    model = apply_method(loaded(golden, name), AdapterSpec(method="full"))
    grouped = groups(model, lr=1e-3, weight_decay=0.05, layer_decay=0.65)
    assert ten_steps(model, torch.optim.AdamW(grouped), golden) == pytest.approx(
        REFERENCE["loss_fft_adamw_layer_decay"], abs=1e-5, rel=0
    )


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_ten_steps_of_lora_with_sgd(name: str, golden: dict[str, Tensor]) -> None:
    model = with_lora(golden, name)
    optimizer = torch.optim.SGD(groups(model), momentum=0.9)
    assert ten_steps(model, optimizer, golden) == pytest.approx(
        REFERENCE["loss_lora_sgd"], abs=1e-5, rel=0
    )


@pytest.mark.parametrize(("epoch", "rate"), REFERENCE["lr_schedule"]["at_epoch"].items())
def test_the_learning_rate_at_every_point_of_the_schedule(epoch: str, rate: float) -> None:
    expected = REFERENCE["lr_schedule"]
    settings = {key: expected[key] for key in ("lr", "min_lr", "warmup_epochs", "epochs")}
    assert schedule.learning_rate(float(epoch), **settings) == rate


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_comparison_for_users_finds_the_same(name: str) -> None:
    result = parity.compare(GOLDEN / name, GOLDEN / "reference.safetensors")
    assert result.holds
    assert result.differences.keys() == parity.ALLOWED.keys()
    assert 0 < max(result.differences.values()) <= 1e-5
    assert len(result.report.matched) == 40


def test_the_comparison_notices_another_model(golden: dict[str, Tensor], tmp_path: Path) -> None:
    name = CHECKPOINTS[1]
    held = torch.load(GOLDEN / name, weights_only=True)["model"]
    held["blocks.1.attn.qkv.weight"] *= 1.001
    torch.save({"model": held}, tmp_path / "other.pth")
    result = parity.compare(tmp_path / "other.pth", GOLDEN / "reference.safetensors")
    assert not result.holds
    assert result.differences["logits"] > 1e-5
    save_file({key: one for key, one in golden.items() if key != "x"}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=r"cannot be read from .*a\.json"):
        parity.compare(GOLDEN / name, tmp_path / "a.safetensors")
    (tmp_path / "a.json").write_text((GOLDEN / "reference.json").read_text())
    with pytest.raises(ModelError, match="lacks x"):
        parity.compare(GOLDEN / name, tmp_path / "a.safetensors")


def test_layer_decay_groups_of_vit_base() -> None:
    golden = REFERENCE["layer_decay_vit_base"]
    with torch.device("meta"):
        model = apply_method(network(BACKBONES["mrm"], 14, 224), AdapterSpec(method="full"))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    ours = {
        names[id(parameter)]: [group["lr_scale"], group["weight_decay"]]
        for group in parameter_groups(
            model, lr=1.0, weight_decay=golden["weight_decay"], layer_decay=golden["layer_decay"]
        )
        for parameter in group["params"]
    }
    assert ours.keys() == set(names.values())
    for name, expected in golden["param_to_[lr_scale,weight_decay]"].items():
        assert ours[name] == pytest.approx(expected, abs=0, rel=1e-15), name


@pytest.mark.parametrize("rank", [4, 8, 16, 32])
def test_trainable_parameters_of_vit_base(rank: int) -> None:
    expected = REFERENCE["trainable_params"]["vit_base_patch16_224, 14 classes"][str(rank)]
    counted = count_parameters(BACKBONES["mrm"], AdapterSpec(rank=rank), 14)
    assert counted.trainable == expected["trainable"]
    assert counted.total == expected["total_with_adapter"]
    assert counted.share * 100 == pytest.approx(expected["percent"], rel=1e-12)


def test_lora_leaves_the_key_untouched(golden: dict[str, Tensor]) -> None:
    model = with_lora(golden)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ten_steps(model, torch.optim.SGD(groups(model), momentum=0.9), golden)
    moved = {name for name, value in model.state_dict().items() if distance(value, before[name])}
    assert moved == {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(".k." in name for name in moved)
    merge_adapter(model)
    plain = loaded(golden)
    tuned, original = (map_model(one).attentions.values() for one in (model, plain))
    for after, before_tuning in zip(tuned, original, strict=True):
        for part in range(3):
            weights = (layer.qkv.weight.chunk(3)[part] for layer in (after, before_tuning))
            assert (distance(*weights) == 0) == (part == 1)
