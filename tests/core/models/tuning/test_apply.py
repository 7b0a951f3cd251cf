"""Every method: what trains, its initial outputs, learning, saving and merging."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from core.config.run import AdapterSpec, RunSpec
from core.errors import ConfigurationError, ModelError
from core.models.backbones import qkv
from core.models.backbones.build import network
from core.models.backbones.model_map import map_model
from core.models.backbones.registry import backbone_card
from core.models.tuning.apply import (
    apply_method,
    count_parameters,
    load_trainable_state,
    merge_adapter,
    parameter_groups,
    trainable_state,
)
from core.models.tuning.registry import TUNING_METHODS
from core.models.tuning.targets import PARTS
from tests.support.programs import output_of

VIT = "timm:test_vit"
SIZE = {"timm:eva02_tiny_patch14_224": 56, "timm:convnext_atto": 64, "timm:densenet121": 64}
HEADS = ("fc_norm.", "head.", "classifier.")
TRAINED = [name for name, method in TUNING_METHODS.items() if not method.closed_form]
MERGED = [name for name, method in TUNING_METHODS.items() if method.merges]
ALPHA = 4.0
OWN: dict[str, dict[str, Any]] = {"fourierft": {"frequencies": 200}}
"""Settings with which a method fits such a small network."""


def small_model(name: str = VIT, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model: Any = network(backbone_card(name), 3, SIZE.get(name, 32))
    # A head with larger weights, so that the logits depend on the features.
    nn.init.normal_(model.get_classifier().weight, std=0.5)
    return model


def adapted(method: str, name: str = VIT, **options: Any) -> Any:
    options = {"alpha": ALPHA, "dropout": 0.0, **OWN.get(method, {}), **options}
    return apply_method(small_model(name), AdapterSpec(method=method, **options))


def batch(name: str = VIT) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    size = SIZE.get(name, 32)
    pixels = torch.randn(8, 3, size, size, generator=generator)
    return pixels, (torch.rand(8, 3, generator=generator) < 0.5).float()


def train(model: Any, steps: int = 2, name: str = VIT, lr: float = 2e-3) -> list[float]:
    pixels, labels = batch(name)
    groups = parameter_groups(model, lr=lr, weight_decay=0.0, layer_decay=1.0)
    optimizer = torch.optim.AdamW(groups)
    model.train()
    losses = []
    for _ in range(steps):
        loss = binary_cross_entropy_with_logits(model(pixels), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def logits(model: Any, name: str = VIT) -> Tensor:
    with torch.inference_mode():
        answer: Tensor = model.eval()(batch(name)[0])
    return answer


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


def test_the_papers_methods_come_first() -> None:
    assert list(TUNING_METHODS)[:3] == ["full", "linear", "lora"]


@pytest.mark.parametrize("method", TRAINED)
def test_the_adapted_model_starts_as_the_backbone(method: str) -> None:
    # VeRA's scales start at 0.1 and zero, LoHa's and LoKr's second factor at zero, and so on.
    difference = apart(logits(adapted(method)), logits(small_model()))
    if TUNING_METHODS[method].starts_as_backbone:
        assert difference < 2e-5
    else:
        assert difference > 1e-3
        assert (
            "Before training, its outputs differ from the backbone's."
            in TUNING_METHODS[method].sentence
        )


@pytest.mark.parametrize("method", TRAINED)
def test_two_steps_change_only_trainable_parameters(method: str) -> None:
    model = adapted(method)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    first, second = train(model, steps=2)
    assert second < first
    train(model, steps=1)
    moved = {name for name, value in model.named_parameters() if apart(value, before[name])}
    declared = {name for name, p in model.named_parameters() if p.requires_grad}
    assert moved == declared
    kept = {name for name in before if ".lora_A." in name} if method == "lora-fa" else set()
    assert trainable_state(model).keys() == declared | kept
    assert {name for name in declared if name.startswith(HEADS)} == {
        name for name in before if name.startswith(HEADS)
    }
    if TUNING_METHODS[method].frozen_backbone:
        assert all(name.startswith(HEADS) for name in declared)
    elif method == "full":
        assert declared == before.keys()
    else:
        assert any(not name.startswith(HEADS) for name in declared)


@pytest.mark.parametrize("method", TRAINED)
def test_the_saved_state_restores_the_model(method: str) -> None:
    model = adapted(method)
    train(model)
    state = trainable_state(model)
    again = adapted(method)
    load_trainable_state(again, state)
    assert apart(logits(again), logits(model)) < 1e-6
    train(model, steps=1)
    assert all(
        torch.equal(state[name], p) for name, p in again.named_parameters() if p.requires_grad
    )


@pytest.mark.parametrize("method", MERGED)
def test_merged_weights_have_timms_layout_and_equal_outputs(method: str) -> None:
    model = adapted(method)
    train(model)
    expected = logits(model)
    merged = merge_adapter(copy.deepcopy(model))
    assert {k: v.shape for k, v in merged.state_dict().items()} == {
        k: v.shape for k, v in small_model().state_dict().items()
    }
    assert apart(logits(merged), expected) <= 1e-5
    plain = small_model(seed=9)
    plain.load_state_dict(merged.state_dict())
    assert apart(logits(plain), expected) <= 1e-5


@pytest.mark.parametrize("method", [*TRAINED, "logistic", "knn"])
def test_the_count_on_the_meta_device_equals_the_models(method: str) -> None:
    spec = AdapterSpec(method=method, rank=2, **OWN.get(method, {}))
    model = apply_method(small_model(), spec)
    counted = count_parameters(backbone_card(VIT), spec, 3, 32)
    assert counted.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counted.total == sum(p.numel() for p in model.parameters())
    assert counted.share == counted.trainable / counted.total
    assert count_parameters(backbone_card(VIT), spec, 3, 32) is counted


@pytest.mark.slow
def test_a_new_process_gives_the_same_logits(tmp_path: Path) -> None:
    model = adapted("lora", rank=2)
    train(model)
    save_file(trainable_state(model), tmp_path / "state.safetensors")
    code = f"""
import torch
from safetensors.torch import load_file, save_file
from core.config.run import AdapterSpec
from core.models.backbones.build import network
from core.models.backbones.registry import backbone_card
from core.models.tuning.apply import apply_method, load_trainable_state
torch.manual_seed(0)
model = network(backbone_card({VIT!r}), 3, 32)
apply_method(model, AdapterSpec(rank=2, alpha={ALPHA}, dropout=0.0))
load_trainable_state(model, load_file({str(tmp_path / "state.safetensors")!r}))
pixels = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
with torch.inference_mode():
    save_file({{"logits": model.eval()(pixels)}}, {str(tmp_path / "logits.safetensors")!r})
"""
    output_of(code)
    from safetensors.torch import load_file

    assert torch.equal(load_file(tmp_path / "logits.safetensors")["logits"], logits(model))


@pytest.mark.parametrize("targets", PARTS)
def test_targets_are_those_of_the_blocks(targets: str) -> None:
    model = adapted("lora", rank=2, targets=targets)
    names = {n.split(".lora_A")[0] for n, _ in model.named_parameters() if "lora_A" in n}
    ends = {
        "q": "attn.qkv.q", "k": "attn.qkv.k", "v": "attn.qkv.v", "proj": "attn.proj",
    }  # fmt: skip
    wanted = [ends[part] for part in PARTS[targets] if part in ends]
    wanted += ["mlp.fc1", "mlp.fc2"] if "mlp" in PARTS[targets] else []
    assert names == {f"blocks.{i}.{end}" for i in range(6) for end in wanted}
    assert apart(logits(model), logits(small_model())) < 1e-5


def test_lora_starts_as_published() -> None:
    model = adapted("lora", rank=4, alpha=32, dropout=0.1)
    layer = model.blocks[0].attn.qkv.v
    bound = (1 / layer.in_features) ** 0.5  # Kaiming uniform with a = √5
    a = layer.lora_A["default"].weight.detach()
    assert 0.9 * bound < float(a.abs().max()) <= bound
    assert not layer.lora_B["default"].weight.any()
    assert layer.scaling["default"] == 32 / 4
    assert layer.lora_dropout["default"].p == 0.1
    q = model.blocks[0].attn.qkv.q.lora_A["default"].weight
    assert not torch.equal(a, q)


@pytest.mark.parametrize("name", ["timm:eva02_tiny_patch14_224", "timm:vit_small_patch16_dinov3"])
def test_other_transformers_are_split_and_fused_with_equal_outputs(name: str) -> None:
    model = small_model(name).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    before, keys = logits(model, name), model.state_dict().keys()
    parts = map_model(model)
    qkv.split(parts)
    assert apart(logits(model, name), before) < 1e-4
    assert all(module.qkv is None for module in parts.attentions.values())
    qkv.fuse(parts)
    assert model.state_dict().keys() == keys
    assert apart(logits(model, name), before) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method", "targets"),
    [
        ("timm:eva02_tiny_patch14_224", "lora", "qv"),
        ("timm:eva02_tiny_patch14_224", "full", "qv"),
        ("timm:convnext_atto", "lora", "mlp"),
        ("timm:convnext_atto", "bitfit", "qv"),
        ("timm:densenet121", "linear", "qv"),
        ("timm:densenet121", "full", "qv"),
    ],
)
def test_other_architectures_train(name: str, method: str, targets: str) -> None:
    model = adapted(method, name, rank=2, targets=targets)
    losses = train(model, 3, name, lr=1e-3)
    assert losses[-1] < losses[0]
    again = adapted(method, name, rank=2, targets=targets)
    load_trainable_state(again, trainable_state(model))
    assert apart(logits(again, name), logits(model, name)) < 1e-5


@pytest.mark.parametrize(
    ("name", "targets", "others"),
    [
        ("timm:densenet121", "qv", "all"),
        ("timm:resnet18", "mlp", "all"),
        ("timm:convnext_atto", "qv", "mlp"),
    ],
)
def test_unsuitable_targets_suggest_suitable_ones(name: str, targets: str, others: str) -> None:
    with pytest.raises(ConfigurationError, match=r"LoRA cannot tune a .* it adapts") as caught:
        apply_method(small_model(name), AdapterSpec(targets=targets))
    assert caught.value.field == "adapter.targets"
    assert f"Choose the targets {others}" in caught.value.remedy
    apply_method(small_model(name), AdapterSpec(targets=others))


def test_batch_statistics_of_a_frozen_network_stay() -> None:
    name = "timm:resnet18"
    model = adapted("linear", name)
    before = {key: value.clone() for key, value in model.named_buffers()}
    train(model, name=name)
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers())
    tuned = adapted("full", name)
    train(tuned, name=name)
    state = trainable_state(tuned)
    assert not torch.equal(state["bn1.running_mean"], before["bn1.running_mean"])


@pytest.mark.parametrize("rank", [65, 300])
def test_a_rank_above_the_layer_is_rejected(rank: int) -> None:
    with pytest.raises(ConfigurationError, match="at most 64") as caught:
        adapted("lora", rank=rank)
    assert caught.value.field == "adapter.rank"


def test_rank_zero_is_rejected_with_the_specification() -> None:
    with pytest.raises(ConfigurationError, match=r"adapter.rank: 0 is out of range") as caught:
        RunSpec.of(**{"adapter.rank": 0})
    assert caught.value.field == "adapter.rank"


def test_adalora_must_reduce_its_ranks() -> None:
    with pytest.raises(
        ConfigurationError, match="initial rank is 4 and the final rank 4"
    ) as caught:
        adapted("adalora", rank=4, initial_rank=4)
    assert caught.value.field == "adapter.initial_rank"
    with pytest.raises(ConfigurationError, match="Rank 65 is larger") as caught:
        adapted("adalora", rank=4, initial_rank=65)
    assert caught.value.field == "adapter.initial_rank"


def test_an_unknown_method_suggests_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean lora") as caught:
        adapted("lroa")
    assert caught.value.field == "adapter.method"


@pytest.mark.parametrize("other", [{"rank": 8}, {"targets": "qkv"}, {"method": "full"}])
def test_weights_of_another_adapter_are_rejected(other: dict[str, Any]) -> None:
    state = trainable_state(adapted(**{"method": "lora", "rank": 2, **other}))
    with pytest.raises(ModelError, match="do not fit the model"):
        load_trainable_state(adapted("lora", rank=2), state)


def test_matrix_b_of_lora_plus_has_a_higher_rate() -> None:
    spec = AdapterSpec(method="lora+", rate_ratio=8.0)
    model = apply_method(small_model(), spec)
    groups = parameter_groups(model, lr=1e-3, weight_decay=0.05, layer_decay=1.0, spec=spec)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert rates[id(parameter)] == pytest.approx(8e-3 if "lora_B" in name else 1e-3), name


def test_lora_fa_saves_its_frozen_matrix_a() -> None:
    model = adapted("lora-fa", rank=2)
    wanted = {name for name, p in model.named_parameters() if p.requires_grad}
    assert not [name for name in wanted if "lora_A" in name]
    state = trainable_state(model)
    torch.manual_seed(77)  # other draws than those of the run
    again = apply_method(
        small_model(), AdapterSpec(method="lora-fa", rank=2, alpha=ALPHA, dropout=0)
    )
    load_trainable_state(again, state)
    a = "blocks.0.attn.qkv.q.lora_A.default.weight"
    assert torch.equal(again.get_parameter(a), model.get_parameter(a))


def test_only_the_last_blocks_train() -> None:
    model = adapted("last-k", last_blocks=2)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split(".")[1] for name in trained if name.startswith("blocks")} == {"4", "5"}
    assert {name.split(".")[0] for name in trained} == {"blocks", "fc_norm", "head"}
    with pytest.raises(ConfigurationError, match="6 blocks, fewer than 7") as caught:
        adapted("last-k", last_blocks=7)
    assert caught.value.field == "adapter.last_blocks"


def test_groups_hold_each_trained_parameter_once() -> None:
    model = adapted("lora")
    groups = parameter_groups(model, lr=1e-3, weight_decay=0.05, layer_decay=0.65)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in model.parameters() if p.requires_grad}
    for group in groups:
        assert group["lr"] == pytest.approx(1e-3 * group["lr_scale"])
        assert group["weight_decay"] == (0 if "no decay" in group["name"] else 0.05)
    top = next(group for group in groups if any(p is model.head.weight for p in group["params"]))
    assert top["lr_scale"] == 1
