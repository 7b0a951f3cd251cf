"""The transfer grid: its runs, and the table of their results."""

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
    """Ignores the events of a grid."""

    def run_started(self, cell: TransferRun, run: Run) -> Reporter:
        return self

    def run_awaited(self, cell: TransferRun, run: Run) -> None:
        raise AssertionError

    def run_ended(self, cell: TransferRun, run: Run) -> None:
        pass


def execute(
    spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
) -> dict[str, Any]:
    """An AUROC that the specification decides; full fine-tuning of random weights fails."""
    if not spec.model.pretrained and spec.adapter.method == "full":
        raise DataError("There are no radiographs.")
    (folder / "predictions").mkdir(exist_ok=True)
    (folder / "predictions" / "test.npz").write_bytes(b"")
    return {"scores": {"test": {"auroc": 0.7 + 0.01 * spec.train.seed}}}


def table(cells: list[TransferRun], store: Store, workspace: Workspace) -> list[grid.Row]:
    return grid.table_rows(cells, grid.completed_results(cells, store.list(), workspace))


def level(row: grid.Row, fraction: float) -> str:
    return grid.row_texts(row, [fraction])[-1]


@pytest.fixture
def data(radiographs: Path) -> DataSpec:
    return DataSpec(name="folder", root=radiographs)


def test_each_way_is_planned_from_each_start_and_full_from_random_weights(data: DataSpec) -> None:
    cells = grid.transfer_runs([data], seeds=2, fractions=(0.01, 0.5))
    planned = [
        (cell.spec.train.seed, cell.spec.model.backbone, cell.spec.model.pretrained,
         cell.spec.adapter.method, cell.spec.adapter.rank)
        for cell in cells
    ]  # fmt: skip
    ways = [
        *(("embedded-mae", True, method, 4) for method in grid.METHODS),
        *(("embedded-mrm", True, method, 4) for method in grid.METHODS),
        ("embedded-mae", False, "full", 4),
        ("embedded-mae", False, "pixels", 4),
    ]
    assert planned == [(seed, *way) for seed in range(2) for way in ways]
    assert {cell.spec.data.label_fraction for cell in cells} == {0.5}  # 1% of 40 is no image


def test_a_grid_of_nothing_is_refused(data: DataSpec) -> None:
    with pytest.raises(ConfigurationError, match="leaves 10 images"):
        grid.transfer_runs([data], seeds=1, fractions=(0.01,))


@pytest.mark.parametrize(
    ("method", "images", "expected"),
    [
        ("lora", 40, 12),
        ("full", 400, 8),
        ("lora", 4000, 1),
        ("lora", 90_000, 1),
        ("linear", 9, 30),
        ("pixels", 40, 1),
    ],
)
def test_runs_process_about_as_many_images(method: str, images: int, expected: int) -> None:
    assert grid.epochs_for(method, images) == expected


@pytest.mark.slow
def test_the_table_gives_mean_interval_and_seeds(
    data: DataSpec, store: Store, workspace: Workspace
) -> None:
    cells = grid.transfer_runs([data], seeds=3, fractions=(0.5, 1.0))
    empty = table(cells, store, workspace)
    assert len(empty) == 12
    assert {level(row, 1.0) for row in empty} == {"–"}

    result = run_grid.run_grid(cells, store, workspace, execute, Quiet())
    assert (result.completed, len(result.failed)) == (66, 6)
    found = table(cells, store, workspace)
    assert [row.start for row in found][-2:] == ["random weights", "no backbone"]
    assert (found[-1].method, level(found[-1], 0.5)) == ("Ridge on pixels", "0.710 ± 0.025 (3)")
    # Student's t with two degrees of freedom: 4.303 × 0.01 / √3.
    assert {level(row, 0.5) for row in found[:-2]} == {"0.710 ± 0.025 (3)"}
    assert level(found[-2], 0.5) == "–"
    lines = grid.markdown(found, (0.5, 1.0)).splitlines()
    assert lines[0] == "| Data | From | Method | Trains | 50% | 100% |"
    assert len(lines) == 14
    assert lines[3].startswith("|  |")
    assert run_grid.run_grid(cells[:6], store, workspace, execute, Quiet()).completed == 0


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
    assert level(row, 1.0) == said


def test_folders_of_ones_own_are_told_apart(
    data: DataSpec, store: Store, workspace: Workspace, tmp_path: Path
) -> None:
    cells = grid.transfer_runs([data], seeds=1, fractions=(1.0,))
    run_grid.run_grid(cells[:1], store, workspace, execute, Quiet())
    other = DataSpec(name="folder", root=tmp_path, label_fraction=1.0)
    elsewhere = [
        TransferRun(cell.start, cell.spec.model_copy(update={"data": other})) for cell in cells
    ]
    assert level(table(elsewhere, store, workspace)[0], 1.0) == "–"
