"""The test scores of a run in detail, and what is shown where something is unknown."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import formatting
from core.config.run import RunSpec
from core.evaluation import evaluate
from core.runs.run import Run, RunState
from core.runs.store import Store
from core.workspace import Workspace
from explorer.context import Context
from explorer.pages.runs.page import RunsPage, Selection
from explorer.pages.runs.scores import scores
from tests.support.completed import completed

Complete = Callable[..., Run]


@pytest.fixture
def complete(store: Store, workspace: Workspace) -> Complete:
    """A completed run on 300 studies, of which no study has the last finding."""

    def make(**more: np.ndarray) -> Run:
        run = store.create(RunSpec())
        folder = workspace.run(run.id) / "predictions"
        folder.mkdir(parents=True)
        generator = np.random.default_rng(0)
        labels = (generator.random((300, 3)) < (0.3, 0.2, 0)).astype(np.float32)
        logits = 2 * labels + generator.normal(size=labels.shape) - 1
        for split in ("val", "test"):
            np.savez(
                folder / f"{split}.npz",
                ids=np.array([f"s{i}" for i in range(300)]),
                patients=np.array([f"P{i // 2}" for i in range(300)]),
                findings=np.array(("Edema", "Pleural_Thickening", "Hernia")),
                labels=labels,
                scores=(1 / (1 + np.exp(-logits))).astype(np.float32),
                **more,
            )
        store.transition(run.id, RunState.STARTING)
        store.transition(run.id, RunState.RUNNING)
        return store.transition(run.id, RunState.COMPLETED, scores={"test": {"auroc": 0.8}})

    return make


def test_a_completed_run_has_points_calibration_and_groups(
    complete: Complete, workspace: Workspace
) -> None:
    sex = np.array(["F", "M"])[np.arange(300) % 2]
    run = complete(sex=sex, age=np.full(300, 30, np.float32), view=np.full(300, "PA"))
    html = scores(run, workspace)
    expected = evaluate.evaluate_run(workspace.run(run.id))
    for finding in expected.findings[:2]:
        for value in (finding.auroc.low, finding.average_precision, finding.point.sensitivity,
                      finding.brier, finding.calibration_error, finding.scaled_error):  # fmt: skip
            assert formatting.auroc(value) in html
    assert "Pleural Thickening" in html
    assert "not defined: one class only" in html
    assert "female" in html
    assert "Gap" in html
    assert f"Temperature {expected.temperature:.2f}" in html
    assert "Reliability" in html
    assert "nan" not in html


def test_missing_subgroups_are_reported(complete: Complete, workspace: Workspace) -> None:
    assert "this run did not store them" in scores(complete(), workspace)


def test_runs_without_predictions_have_no_scores(store: Store, workspace: Workspace) -> None:
    assert scores(store.create(RunSpec()), workspace) == ""


def test_damaged_predictions_are_reported(complete: Complete, workspace: Workspace) -> None:
    run = complete()
    file = Path(workspace.run(run.id)) / "predictions" / "test.npz"
    file.write_bytes(b"no archive")
    assert "cannot be read" in scores(run, workspace)


def test_all_folds_are_scored_as_one_model(store: Store, workspace: Workspace) -> None:
    nothing: Any = None
    page = RunsPage(Context(workspace, store, nothing, nothing, defaultdict(lambda: nothing), {}))
    runs = [
        completed(store, workspace, RunSpec.of(**{"data.fold": f"{k}/3"}), skill=float(k))
        for k in (1, 2, 3)
    ]

    def shown(run: Run) -> str:
        return page.scores(Selection(run=run.id, follow=False, tuning=None))

    expected = evaluate.evaluate_run(runs[0].folder, others=[run.folder for run in runs[1:]])
    for run in runs:
        assert "All 3 folds in detail" in shown(run)
        assert "600 studies" in shown(run)
        assert formatting.auroc(expected.macro.value) in shown(run)
    store.delete(runs[1].id)
    assert "Test split in detail" in shown(runs[0])
    assert "Fold 1/3 alone." in shown(runs[0])
