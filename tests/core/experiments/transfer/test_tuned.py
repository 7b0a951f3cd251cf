"""Tuned runs of the transfer grid, and the stored tests of its file of results."""

import math
from pathlib import Path

import pytest

from core.config.run import DataSpec
from core.errors import DataError
from core.experiments.transfer import grid, pairwise_tests, results_csv, tuned
from core.experiments.transfer.grid import TransferResult, TransferRun
from core.experiments.tune.choice import TUNING_SEED, choose_all
from core.runs.store import Store
from core.workspace import Workspace
from tests.core.conftest import radiographs
from tests.support.tuned_run import quality, served

__all__ = ["radiographs"]


@pytest.fixture
def cells(radiographs: Path) -> list[TransferRun]:
    data = DataSpec(name="folder", root=radiographs)
    return grid.transfer_runs([data], seeds=3, fractions=(1.0,))


def test_each_setting_is_tuned_once_for_all_seeds(
    cells: list[TransferRun], store: Store, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.experiments.tune.tune.POLL_SECONDS", 0.02)
    open_cells = tuned.tuned_cells(cells)
    assert {cell.spec.adapter.method for cell in open_cells} == {
        "linear", "attentive", "lora", "full",
    }  # fmt: skip
    own = [cell for cell in open_cells if cell.spec.adapter.method == "lora"]
    plans = {plan.name: plan for plan in (tuned.plan_of(cell, 3) for cell in own)}
    assert len(plans) == 2  # one for each pre-trained backbone
    assert tuned.with_choices(own, workspace, 3) == {}
    with served(store, workspace):
        choose_all(plans.values(), store, workspace, lambda line: None)
    assert {run.spec.train.seed for run in store.list()} == {TUNING_SEED}
    chosen = tuned.with_choices(own, workspace, 3)
    assert list(chosen) == own
    for before, after in chosen.items():
        assert after.tuned
        assert after.spec.train.seed == before.spec.train.seed
        assert quality(after.spec) >= quality(before.spec)


def scored(cells: list[TransferRun], predict) -> dict[TransferRun, TransferResult]:
    skills = {"lora": 1.1, "logistic": 1.05}
    return {
        cell: TransferResult(
            0.7,
            0.01,
            predict(f"run{i}", skills.get(cell.spec.adapter.method, 1.0) + 0.1 * cell.tuned, i),
        )
        for i, cell in enumerate(cells)
    }


def test_stored_tests_replace_the_predictions(
    cells: list[TransferRun], predict, tmp_path: Path
) -> None:
    both = [*cells, *tuned.tuned_cells(cells)]
    results = scored(both, predict)
    found = pairwise_tests.lora_summaries(both, results)
    assert [(one.other, one.tuned) for one in found] == [
        (other, tuned) for tuned in (False, True) for other in pairwise_tests.OTHERS
    ]
    sentences = [pairwise_tests.sentence(one) for one in found]
    assert sentences[4].startswith("LoRA (tuned) compared with full fine-tuning (tuned): ")
    assert sentences[6].startswith("LoRA (tuned) compared with logistic regression: ")

    file = tmp_path / "results.csv"
    results_csv.write_tests(file, {}, found)
    stored = results_csv.read_tests(file)
    without = {cell: TransferResult(one.auroc, one.share) for cell, one in results.items()}
    again = pairwise_tests.lora_summaries(both, without, stored)
    assert [pairwise_tests.sentence(one) for one in again] == sentences
    first, second = found[0].tests[0], again[0].tests[0]
    assert second.over_patients
    assert second.difference.low == pytest.approx(first.difference.low, abs=1e-6)

    # A test of other seeds is not that of these runs.
    fewer = {cell: one for cell, one in without.items() if cell.spec.train.seed}
    alone = pairwise_tests.lora_summaries(both, fewer, stored)
    assert not any(test.over_patients for one in alone for test in one.tests)
    assert math.isnan(alone[0].tests[0].p)


def test_a_damaged_file_of_tests_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    assert results_csv.read_tests(file) == {}
    lines = [",".join(results_csv.TEST_COLUMNS), "nih,start,1,full,default,0 1 2,0.1,0.0,high,0.04"]
    results_csv.tests_path(file).write_text("\n".join(lines))
    with pytest.raises(DataError, match="Line 2"):
        results_csv.read_tests(file)
