"""Pairwise tests of the transfer grid: pairs by seed, corrected for their number."""

import math
from pathlib import Path

import pytest

from core.config.run import DataSpec
from core.experiments.transfer import grid, pairwise_tests
from core.experiments.transfer.grid import TransferResult, TransferRun
from tests.core.conftest import radiographs

__all__ = ["radiographs"]


@pytest.fixture
def cells(radiographs: Path) -> list[TransferRun]:
    data = DataSpec(name="folder", root=radiographs)
    return grid.transfer_runs([data], seeds=3, fractions=(0.5, 1.0))


def scored(
    cells: list[TransferRun], gain: float, jitter: float
) -> dict[TransferRun, TransferResult]:
    """LoRA above full by a gain that varies a little, in spite of seeds that vary a lot."""
    known = {}
    for cell in cells:
        seed, method = cell.spec.train.seed, cell.spec.adapter.method
        gains = {"lora": gain + jitter * (seed - 1), "linear": gain}
        own = gains.get(method, 0.0)
        known[cell] = TransferResult(0.5 + 0.1 * seed + own, 0.01)
    return known


def test_seeds_are_paired(cells: list[TransferRun]) -> None:
    full, linear, *_ = pairwise_tests.lora_summaries(cells, scored(cells, gain=0.03, jitter=0.001))
    assert sorted(one.fraction for one in full.tests) == [0.5, 0.5, 1.0, 1.0]
    assert {one.start for one in full.tests} == {"ViT-Tiny MAE, embedded", "ViT-Tiny MRM, embedded"}
    first = full.tests[0]
    # Student's t with two degrees of freedom: 4.303 × 0.001 / √3, whatever the seeds' own spread.
    assert first.difference.value == pytest.approx(0.03)
    assert first.difference.high == pytest.approx(0.03 + 0.00248, abs=1e-5)
    assert (full.ahead, len(full.significant)) == (4, 4)
    assert full.tests[0].adjusted == pytest.approx(4 * first.p)
    assert linear.tests[0].difference.value == pytest.approx(0, abs=1e-12)
    assert "in points: " in pairwise_tests.sentence(full)
    assert "50% from ViT-Tiny MAE, embedded +3.0" in pairwise_tests.sentence(full)


def test_a_difference_may_be_insignificant_among_many_tests(cells: list[TransferRun]) -> None:
    full, *_ = pairwise_tests.lora_summaries(cells, scored(cells, gain=0.03, jitter=0.01))
    assert full.tests[0].p < 0.05
    assert not full.significant
    text = pairwise_tests.sentence(full)
    assert text == (
        "LoRA compared with full fine-tuning: ahead in 4 of 4 comparisons; no difference is "
        "significant among 4 tests over seeds (Holm)."
    )


def test_runs_without_their_counterpart_are_left_out(cells: list[TransferRun]) -> None:
    known = scored(cells, gain=0.03, jitter=0.001)
    alone = {
        cell: result
        for cell, result in known.items()
        if cell.spec.adapter.method == "lora" or cell.spec.train.seed == 1
    }
    full, *_ = pairwise_tests.lora_summaries(cells, alone)
    assert {one.seeds for one in full.tests} == {(1,)}
    assert math.isnan(full.tests[0].adjusted)
    assert pairwise_tests.sentence(full).endswith(
        "a difference cannot be tested with fewer than 3 seeds."
    )
    assert pairwise_tests.as_json(full)["duels"][0]["p_holm"] is None  # type: ignore[index]
    for summary in pairwise_tests.lora_summaries(cells, {}):
        assert pairwise_tests.sentence(summary).endswith("no pair of runs is completed yet.")


def test_known_predictions_add_the_variance_over_patients(
    cells: list[TransferRun], predict
) -> None:
    known = {}
    for i, (cell, result) in enumerate(scored(cells, gain=0.03, jitter=0.001).items()):
        skill = 1.1 if cell.spec.adapter.method == "lora" else 1.0
        folder = predict(f"run{i}", skill, seed=i)
        known[cell] = TransferResult(result.auroc, result.share, folder)
    full, *_ = pairwise_tests.lora_summaries(cells, known)
    first = full.tests[0]
    assert first.over_patients
    assert first.seeds == (0, 1, 2)
    assert first.difference.low < first.difference.value < first.difference.high
    assert "over seeds and patients (Holm)" in pairwise_tests.sentence(full)
