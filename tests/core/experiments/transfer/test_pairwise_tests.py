"""LoRA against the other ways of the transfer grid: pairs by seed, and many tests at once."""

import math
from pathlib import Path

import pytest

from core.config.run import DataSpec
from core.experiments.transfer import grid, pairwise_tests
from core.experiments.transfer.grid import TransferResult, TransferRun
from tests.core.conftest import radiographs

__all__ = ["radiographs"]


@pytest.fixture
def trips(radiographs: Path) -> list[TransferRun]:
    data = DataSpec(name="folder", root=radiographs)
    return grid.plan([data], seeds=3, fractions=(0.5, 1.0))


def scored(
    trips: list[TransferRun], gain: float, jitter: float
) -> dict[TransferRun, TransferResult]:
    """LoRA above full by a gain that varies a little, in spite of seeds that vary a lot."""
    known = {}
    for trip in trips:
        seed, method = trip.spec.train.seed, trip.spec.adapter.method
        own = {"lora": gain + jitter * (seed - 1), "full": 0.0, "linear": gain}[method]
        known[trip] = TransferResult(0.5 + 0.1 * seed + own, 0.01)
    return known


def test_seeds_are_paired(trips: list[TransferRun]) -> None:
    full, linear = pairwise_tests.tallies(trips, scored(trips, gain=0.03, jitter=0.001))
    assert sorted(one.fraction for one in full.tests) == [0.5, 0.5, 1.0, 1.0]
    assert {one.start for one in full.tests} == {"ViT-Tiny MAE, embedded", "ViT-Tiny MRM, embedded"}
    first = full.tests[0].test
    # Student's t with two degrees of freedom: 4.303 × 0.001 / √3, whatever the seeds' own spread.
    assert first.difference.value == pytest.approx(0.03)
    assert first.difference.high == pytest.approx(0.03 + 0.00248, abs=1e-5)
    assert (full.ahead, len(full.standing)) == (4, 4)
    assert full.tests[0].adjusted == pytest.approx(4 * first.p)
    assert linear.tests[0].test.difference.value == pytest.approx(0, abs=1e-12)
    assert "in points: " in pairwise_tests.sentence(full)
    assert "50% from ViT-Tiny MAE, embedded +3.0" in pairwise_tests.sentence(full)


def test_what_many_tests_leave_open_is_not_told_as_standing(trips: list[TransferRun]) -> None:
    full, _ = pairwise_tests.tallies(trips, scored(trips, gain=0.03, jitter=0.01))
    assert full.tests[0].test.p < 0.05
    assert not full.standing
    told = pairwise_tests.sentence(full)
    assert told.startswith("LoRA against full fine-tuning: ahead in 4 of 4 (95% interval 40% to")
    assert told.endswith("no difference stands among 4 tests (Holm).")


def test_runs_without_their_counterpart_are_left_out(trips: list[TransferRun]) -> None:
    known = scored(trips, gain=0.03, jitter=0.001)
    alone = {
        trip: figure
        for trip, figure in known.items()
        if trip.spec.adapter.method == "lora" or trip.spec.train.seed == 1
    }
    full, _ = pairwise_tests.tallies(trips, alone)
    assert {one.test.count for one in full.tests} == {1}
    assert math.isnan(full.tests[0].adjusted)
    assert pairwise_tests.sentence(full).endswith("with one seed no difference can be tested.")
    assert pairwise_tests.as_json(full)["duels"][0]["p_holm"] is None  # type: ignore[index]
    for tally in pairwise_tests.tallies(trips, {}):
        assert pairwise_tests.sentence(tally).endswith("no pair of runs is done yet.")
