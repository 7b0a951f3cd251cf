"""Target layers: named choices, patterns, blocks, and layers that must not be matched."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from core.config.run import AdapterSpec, RunSpec
from core.errors import ConfigurationError
from core.models.backbones.build import network
from core.models.backbones.model_map import map_model
from core.models.backbones.registry import backbone_card
from core.models.tuning.apply import apply_method
from core.models.tuning.registry import TUNING_METHODS
from core.models.tuning.targets import fitting

VIT, SWIN = "timm:test_vit", "timm:swin_tiny_patch4_window7_224"
EVA = "timm:eva02_tiny_patch14_224"
SIZES = {VIT: 32, EVA: 56, SWIN: 224}


def bare(name: str) -> Any:
    """A network on the meta device; only names and shapes matter here."""
    with torch.device("meta"):
        return network(backbone_card(name), 3, SIZES.get(name, 64))


def adapted(name: str = VIT, method: str = "lora", **options: Any) -> set[str]:
    model = apply_method(bare(name), AdapterSpec(method=method, rank=2, **options))
    return {n.split(".lora_A")[0] for n, _ in model.named_parameters() if "lora_A" in n}


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        (r"blocks\.\d+\.attn\.qkv\.[qv]", {"attn.qkv.q", "attn.qkv.v"}),
        (r"blocks.*\.(proj|fc2)", {"attn.proj", "mlp.fc2"}),
        # timm's name of the fused matrix: each of its three parts gets an adapter.
        (r".*\.qkv", {"attn.qkv.q", "attn.qkv.k", "attn.qkv.v"}),
    ],
)
def test_a_pattern_matches_whole_names(pattern: str, wanted: set[str]) -> None:
    assert adapted(targets=pattern) == {f"blocks.{i}.{end}" for i in range(6) for end in wanted}


def test_a_pattern_matches_separate_projections_of_eva() -> None:
    found = adapted(EVA, targets=r".*\.[qv]_proj")
    assert found == {f"blocks.{i}.attn.{part}_proj" for i in range(12) for part in "qv"}
    assert adapted(EVA, targets="qv") == found


def test_a_pattern_matches_convolutions() -> None:
    found = adapted("timm:resnet18", targets=r"layer4\..*conv2")
    assert found == {"layer4.0.conv2", "layer4.1.conv2"}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("qvk", "match the whole name of no layer"),
        ("proj", "match the whole name of no layer"),
        ("", "match the whole name of no layer"),
        (r".*\.proj", r"also matches patch_embed\.proj: the patch embedding"),
        (r".*", r"also matches (patch_embed\.proj|head)"),
        (r"(head|.*fc1)", "also matches head: the classifier"),
    ],
)
def test_a_pattern_that_matches_too_much_or_nothing_is_rejected(pattern: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        adapted(targets=pattern)
    assert caught.value.field == "adapter.targets"
    assert caught.value.remedy


def test_the_classifier_of_swin_is_known_by_its_own_name() -> None:
    with pytest.raises(ConfigurationError, match=r"also matches head\.fc: the classifier"):
        adapted(SWIN, targets=r".*fc.*")
    assert not [name for name in adapted(SWIN, targets="all") if name.startswith("head")]


def test_the_stem_is_not_part_of_the_blocks() -> None:
    with pytest.raises(ConfigurationError, match=r"also matches conv1: the patch embedding"):
        adapted("timm:resnet18", targets=r".*conv1")
    assert "conv1" not in adapted("timm:resnet18", targets="all")


@pytest.mark.parametrize("pattern", ["blocks.(", "*", "[a"])
def test_an_invalid_regular_expression_is_rejected_with_the_specification(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="nor a valid regular expression") as caught:
        RunSpec.of(**{"adapter.targets": pattern})
    assert caught.value.field == "adapter.targets"


@pytest.mark.parametrize(
    ("text", "numbers"), [("4-5", {4, 5}), ("0", {0}), ("0,2,4-5", {0, 2, 4, 5})]
)
def test_blocks_are_chosen_by_number(text: str, numbers: set[int]) -> None:
    found = adapted(blocks=text)
    assert {int(name.split(".")[1]) for name in found} == numbers
    assert len(found) == 2 * len(numbers)


def test_blocks_are_numbered_across_stages() -> None:
    # Swin-Tiny has stages of 2, 2, 6 and 2 blocks.
    assert {name.split(".attn")[0] for name in adapted(SWIN, blocks="1,4,11")} == {
        "layers.0.blocks.1", "layers.2.blocks.0", "layers.3.blocks.1",
    }  # fmt: skip
    found = adapted("timm:resnet18", targets="all", blocks="7")
    assert found == {"layer4.1.conv1", "layer4.1.conv2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [("6", "it has 6, from 0 to 5"), ("3-9", "no blocks 3-9"), ("5-4", "no blocks 5-4")],
)
def test_blocks_out_of_range_are_rejected(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        adapted(blocks=text)
    assert caught.value.field == "adapter.blocks"


@pytest.mark.parametrize("text", ["last", "1-", "1;2", "-1", ""])
def test_blocks_that_are_not_numbers_are_rejected_with_the_specification(text: str) -> None:
    with pytest.raises(ConfigurationError, match="numbers and ranges") as caught:
        RunSpec.of(**{"adapter.blocks": text})
    assert caught.value.field == "adapter.blocks"


@pytest.mark.parametrize(
    ("name", "kind", "choices"),
    [
        (VIT, "linear", ("qv", "qkv", "attn", "mlp", "all")),
        ("timm:convnext_atto", "pointwise", ("mlp", "all")),
        ("timm:convnext_atto", "linear", ()),
        ("timm:convnext_tiny", "linear", ("mlp", "all")),
        ("timm:densenet121", "pointwise", ("all",)),
        ("timm:densenet121", "linear", ()),
    ],
)
def test_fitting_targets_follow_the_layers_of_a_network(
    name: str, kind: Any, choices: tuple[str, ...]
) -> None:
    assert fitting(map_model(bare(name)), kind) == choices


def test_a_pattern_must_not_match_layers_that_the_method_cannot_adapt() -> None:
    with pytest.raises(ConfigurationError, match=r"PiSSA cannot tune .*mlp\.fc1 .* Conv2d"):
        adapted("timm:convnext_atto", "pissa", targets=r"stages.*fc1")
    assert TUNING_METHODS["pissa"].kind == "linear"
