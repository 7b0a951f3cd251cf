"""What pre-training is worth: which runs that takes, and what the table says of them."""

from pathlib import Path
from typing import Any

import pytest

from core.config.run import DataSpec, RunSpec
from core.errors import ConfigurationError, DataError
from core.experiments import run_grid
from core.experiments.transfer import grid
from core.experiments.transfer.grid import TransferRun
from core.metrics.label_efficiency import curve
from core.reporter import NullReporter, Reporter
from core.runs.run import Run
from core.runs.store import Store
from core.workspace import Workspace
from tests.core.conftest import radiographs

__all__ = ["radiographs"]


class Quiet(NullReporter):
    """Is told, and says nothing."""

    def begins(self, cell: TransferRun, run: Run) -> Reporter:
        return self

    def waits(self, cell: TransferRun, run: Run) -> None:
        raise AssertionError

    def ends(self, cell: TransferRun, run: Run) -> None:
        pass


def execute(
    spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
) -> dict[str, Any]:
    """An AUROC that the specification decides; a run on random weights fails."""
    if not spec.model.pretrained:
        raise DataError("There are no radiographs.")
    (folder / "predictions").mkdir(exist_ok=True)
    (folder / "predictions" / "test.npz").write_bytes(b"")
    return {"scores": {"test": {"auroc": 0.7 + 0.01 * spec.train.seed}}}


def table(trips: list[TransferRun], store: Store, workspace: Workspace) -> list[grid.Row]:
    return grid.rows(trips, grid.figures(trips, store.list(), workspace))


@pytest.fixture
def data(radiographs: Path) -> DataSpec:
    return DataSpec(name="folder", root=radiographs)


def test_each_way_is_planned_from_each_start_and_full_from_random_weights(data: DataSpec) -> None:
    trips = grid.plan([data], seeds=2, fractions=(0.01, 0.5))
    planned = [
        (trip.spec.train.seed, trip.spec.model.backbone, trip.spec.model.pretrained,
         trip.spec.adapter.method, trip.spec.adapter.rank)
        for trip in trips
    ]  # fmt: skip
    ways = [
        *(("embedded-mae", True, method, 4) for method in ("linear", "lora", "full")),
        *(("embedded-mrm", True, method, 4) for method in ("linear", "lora", "full")),
        ("embedded-mae", False, "full", 4),
    ]
    assert planned == [(seed, *way) for seed in range(2) for way in ways]
    assert {trip.spec.data.label_fraction for trip in trips} == {0.5}  # 1% of 40 is no picture


def test_a_grid_of_nothing_is_refused(data: DataSpec) -> None:
    with pytest.raises(ConfigurationError, match="leaves 10 pictures"):
        grid.plan([data], seeds=1, fractions=(0.01,))


@pytest.mark.parametrize(
    ("method", "images", "expected"),
    [("lora", 40, 12), ("full", 400, 8), ("lora", 4000, 1), ("lora", 90_000, 1), ("linear", 9, 30)],
)
def test_runs_see_about_as_many_pictures(method: str, images: int, expected: int) -> None:
    assert grid.epochs(method, images) == expected


def test_the_table_gives_mean_interval_and_seeds(
    data: DataSpec, store: Store, workspace: Workspace
) -> None:
    trips = grid.plan([data], seeds=3, fractions=(0.5, 1.0))
    empty = table(trips, store, workspace)
    assert len(empty) == 7
    assert {grid.level(row, 1.0) for row in empty} == {"–"}

    ending = run_grid.run_grid(trips, store, workspace, execute, Quiet())
    assert (ending.completed, len(ending.failed)) == (36, 6)
    found = table(trips, store, workspace)
    assert [row.start for row in found][-1] == "random weights"
    # Student's t with two degrees of freedom: 4.303 × 0.01 / √3.
    assert {grid.level(row, 0.5) for row in found[:-1]} == {"0.710 ± 0.025 (3)"}
    assert grid.level(found[-1], 0.5) == "–"
    lines = grid.markdown(found, (0.5, 1.0)).splitlines()
    assert lines[0] == "| Data | From | Method | Trains | 50% | 100% |"
    assert len(lines) == 9
    assert lines[3].startswith("|  |")
    assert run_grid.run_grid(trips[:6], store, workspace, execute, Quiet()).completed == 0


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([0.7, 0.72, 0.71], "0.710 ± 0.025 (3)"),
        ([0.99, 0.97, 0.98], "0.980 ± 0.025 (3)"),  # cut off at 1 on one side
        ([0.3, 0.9], "0.600 (2)"),  # cut off on both
        ([0.7], "0.700 (1)"),
    ],
)
def test_an_interval_that_leaves_all_open_is_not_given(scores: list[float], said: str) -> None:
    row = grid.Row("data", "start", "method", None, curve("method", {1.0: scores}))
    assert grid.level(row, 1.0) == said


def test_folders_of_ones_own_are_told_apart(
    data: DataSpec, store: Store, workspace: Workspace, tmp_path: Path
) -> None:
    trips = grid.plan([data], seeds=1, fractions=(1.0,))
    run_grid.run_grid(trips[:1], store, workspace, execute, Quiet())
    other = DataSpec(name="folder", root=tmp_path, label_fraction=1.0)
    elsewhere = [
        TransferRun(trip.start, trip.spec.model_copy(update={"data": other})) for trip in trips
    ]
    assert grid.level(table(elsewhere, store, workspace)[0], 1.0) == "–"
