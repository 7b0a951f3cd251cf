"""Precomputed counts equal counting now, and reading them does not load torch."""

import os
from pathlib import Path

import pytest

from core.build_assets import counts
from core.config.run import AdapterSpec, RunSpec
from core.hardware import available_memory
from core.models.backbones.card import BackboneCard
from core.models.backbones.registry import BACKBONES, backbone_card
from core.models.tuning import applicability, precomputed
from core.models.tuning.applicability import fitting_targets, offers
from core.models.tuning.apply import count_in_model, count_parameters
from core.models.tuning.registry import TUNING_METHODS
from core.resources import memory, network_memory, throughput
from tests.support.programs import output_of

EMBEDDED = [card for card in BACKBONES.values() if card.source == "embedded"]
ALWAYS = ("full", "linear", "lora", "vpt")
"""Methods whose memory is always counted again; it takes a second each."""

WITHOUT_TORCH = """
import sys
from pathlib import Path
from core.config.run import RunSpec
from core.models.backbones.registry import backbone_card
from core.models.tuning.applicability import offers
from core.resources.estimate import estimate
from core.resources.preflight import check

for method in ("lora", "full", "linear", "dora"):
    spec = RunSpec.of(**{"adapter.method": method})
    check(spec)
    estimate(spec, Path(sys.argv[1]))
assert len(offers(backbone_card("embedded-mae"), 14)) > 20
print("torch" in sys.modules)
"""


@pytest.mark.slow
@pytest.mark.parametrize("card", EMBEDDED, ids=lambda card: card.name)
@pytest.mark.parametrize("findings", [1, 14, 300])
def test_precomputed_parameters_equal_those_of_the_model(card: BackboneCard, findings: int) -> None:
    for offer in offers(card, findings):
        assert precomputed.find(card, offer.spec, None) is not None
        assert offer.count == count_in_model(card, offer.spec, findings)
    for rank in counts.RANKS:
        spec = AdapterSpec(rank=rank)
        assert precomputed.find(card, spec, None) is not None
        now = count_in_model(card, spec, findings)
        assert count_parameters(card, spec, findings, card.input_size) == now
        assert count_parameters(card, AdapterSpec(rank=rank, alpha=7), findings) == now


@pytest.mark.slow
@pytest.mark.parametrize("method", TUNING_METHODS if os.environ.get("CXR_LONG") else ALWAYS)
@pytest.mark.parametrize("precision", counts.PRECISIONS)
def test_precomputed_memory_equals_counting_now(
    method: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = RunSpec.of(**{"adapter.method": method, "train.precision": precision,
                         "train.device": "cpu", "adapter.alpha": 16}).resolved()  # fmt: skip
    known = memory.footprint(spec, 14)
    monkeypatch.setattr(network_memory, "_precomputed", lambda query: None)
    assert memory.footprint(spec, 14) == known


@pytest.mark.slow
@pytest.mark.parametrize("card", EMBEDDED, ids=lambda card: card.name)
@pytest.mark.parametrize("method", TUNING_METHODS)
def test_precomputed_targets_equal_those_of_the_model(card: BackboneCard, method: str) -> None:
    assert fitting_targets(card, TUNING_METHODS[method]) == counts.targets(
        card, AdapterSpec(method=method)
    )


def test_the_file_is_complete_and_its_operations_are_right() -> None:
    assert precomputed._content().keys() == {card.name for card in EMBEDDED}
    wanted = {precomputed.key(spec) for spec in counts.specs()}
    for card in EMBEDDED:
        assert precomputed._content()[card.name]["methods"].keys() == wanted
        assert throughput.count_operations(card.name, card.input_size) == precomputed.operations(
            card.name, card.input_size
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"model.input_size": 64},
        {"adapter.rank": 5},
        {"adapter.targets": "all"},
        {"train.drop_path": 0.0},
        {"adapter.dropout": 0.1},
        {"train.activation_checkpointing": True},
        {"train.augmentation": "crop-flip"},
        {"train.precision": "bf16"},
    ],
)
def test_other_settings_are_counted_now(changes: dict[str, object]) -> None:
    usual = {"train.device": "cpu", "train.precision": "fp32"}
    default, changed = (RunSpec.of(**usual | more).resolved() for more in ({}, changes))
    card = backbone_card("embedded-mae")
    if "adapter.rank" in changes or "adapter.targets" in changes:
        trains = [count_parameters(card, spec.adapter, 14).trainable for spec in (default, changed)]
        assert trains[1] > trains[0]
    if "train.augmentation" not in changes:  # LoRA's step holds the same
        assert memory.footprint(default, 14) != memory.footprint(changed, 14)
    if "model.input_size" in changes:
        assert throughput.forward_operations(card.name, 64) < throughput.forward_operations(
            card.name, 128
        )


@pytest.mark.slow
def test_without_the_file_everything_is_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    card = backbone_card("embedded-mae")
    known, offered = count_parameters(card, AdapterSpec(), 14), offers(card, 14)
    monkeypatch.setattr(precomputed, "FILE", tmp_path / "counts.json")
    precomputed._content.cache_clear()
    applicability._offer.cache_clear()
    try:
        assert precomputed.find(card, AdapterSpec(), None) is None
        assert count_parameters(card, AdapterSpec(), 14) == known
        assert offers(card, 14) == offered
    finally:
        monkeypatch.undo()
        precomputed._content.cache_clear()
        applicability._offer.cache_clear()


def test_estimates_for_the_embedded_backbones_load_no_torch(tmp_path: Path) -> None:
    assert output_of(WITHOUT_TORCH, tmp_path) == f"{bool(available_memory.gpu())}\n"


@pytest.mark.slow
def test_the_hardware_is_detected_equally_with_and_without_torch() -> None:
    program = (
        "from core.hardware.available_memory import gpu;"
        "from core.hardware.precision import multiplies_bf16;"
        "before = multiplies_bf16(), gpu();"
        "import torch; assert before == (multiplies_bf16(), gpu())"
    )
    output_of(program)
