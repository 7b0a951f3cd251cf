"""What is counted beforehand, against counting it now; and that nobody loads torch to be told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.build_assets import counts as counting
from core.config.run import AdapterSpec, RunSpec
from core.hardware import available_memory
from core.models.backbones.card import BackboneCard
from core.models.backbones.registry import BACKBONES, backbone_card
from core.models.tuning import precomputed
from core.models.tuning.applicability import counted, offers
from core.models.tuning.apply import count_parameters, counted_parameters
from core.models.tuning.registry import TUNING_METHODS
from core.resources import memory, network_memory, throughput

EMBEDDED = [card for card in BACKBONES.values() if card.source == "embedded"]
OFTEN = ("full", "linear", "lora", "vpt")
"""Methods whose memory is counted again each time; it takes a second each."""

WITHOUT_TORCH = """
import sys
from pathlib import Path
from core.config.run import RunSpec
from core.models.backbones.registry import backbone_card
from core.models.tuning.applicability import offers
from core.resources import estimate, preflight

for method in ("lora", "full", "linear", "dora"):
    spec = RunSpec.of(**{"adapter.method": method})
    preflight.check(spec)
    estimate.estimate(spec, Path(sys.argv[1]))
assert len(offers(backbone_card("embedded-mae"), 14)) > 20
sys.exit(10 if "torch" in sys.modules else 0)
"""


@pytest.mark.parametrize("card", EMBEDDED, ids=lambda card: card.name)
@pytest.mark.parametrize("findings", [1, 14, 300])
def test_every_method_trains_what_was_counted(card: BackboneCard, findings: int) -> None:
    assert offers(card, findings) == counted(card, findings)
    for rank in counting.RANKS:
        spec = AdapterSpec(rank=rank)
        assert precomputed.tuned(card, spec, None) is not None
        now = counted_parameters(card, spec, findings)
        assert count_parameters(card, spec, findings, card.input_size) == now
        assert count_parameters(card, AdapterSpec(rank=rank, alpha=7), findings) == now


@pytest.mark.parametrize("method", TUNING_METHODS if os.environ.get("CXR_LONG") else OFTEN)
@pytest.mark.parametrize("precision", counting.PRECISIONS)
def test_every_method_holds_what_was_counted(
    method: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = RunSpec.of(**{"adapter.method": method, "train.precision": precision,
                         "train.device": "cpu", "adapter.alpha": 16}).resolved()  # fmt: skip
    known = memory.footprint(spec, 14)
    monkeypatch.setattr(network_memory, "_precomputed", lambda query: None)
    assert memory.footprint(spec, 14) == known


def test_all_of_it_is_there_and_the_operations_are_right() -> None:
    assert precomputed._all().keys() == {card.name for card in EMBEDDED}
    wanted = {precomputed.key(spec) for spec in counting.specs()}
    for card in EMBEDDED:
        assert precomputed._all()[card.name]["methods"].keys() == wanted
        assert throughput.count_operations(card.name, card.input_size) == precomputed.operations(
            card.name, card.input_size
        )


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
def test_what_was_not_counted_beforehand_is_counted_now(changes: dict[str, object]) -> None:
    usual = {"train.device": "cpu", "train.precision": "fp32"}
    one, other = (RunSpec.of(**usual | more).resolved() for more in ({}, changes))
    card = backbone_card("embedded-mae")
    if "adapter.rank" in changes or "adapter.targets" in changes:
        trains = [count_parameters(card, spec.adapter, 14).trainable for spec in (one, other)]
        assert trains[1] > trains[0]
    if "train.augmentation" not in changes:  # LoRA's step holds the same
        assert memory.footprint(one, 14) != memory.footprint(other, 14)
    if "model.input_size" in changes:
        assert throughput.forward_operations(card.name, 64) < throughput.forward_operations(
            card.name, 128
        )


def test_a_file_that_is_gone_only_costs_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    card = backbone_card("embedded-mae")
    known = count_parameters(card, AdapterSpec(), 14)
    monkeypatch.setattr(precomputed, "FILE", tmp_path / "counts.json")
    precomputed._all.cache_clear()
    try:
        assert precomputed.tuned(card, AdapterSpec(), None) is None
        assert count_parameters(card, AdapterSpec(), 14) == known
    finally:
        monkeypatch.undo()
        precomputed._all.cache_clear()


def test_the_embedded_backbones_are_told_of_without_torch(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, str(tmp_path)], check=False)
    assert ended.returncode == (10 if available_memory.gpu() else 0)


def test_the_processor_is_asked_alike_with_torch_and_without() -> None:
    program = (
        "import sys; from core.hardware import available_memory, precision;"
        "first = precision.multiplies_bf16(), available_memory.gpu();"
        "import torch; assert first == (precision.multiplies_bf16(), available_memory.gpu())"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
