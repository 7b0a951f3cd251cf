"""The choice of a prevalence and of a finding for the scores of a run."""

from typing import Any

import gradio as gr
import pytest

from core import formatting
from core.config.run import RunSpec
from core.errors import ConfigurationError
from core.evaluation import evaluate
from core.runs.run import Run
from core.runs.store import Store
from core.workspace import Workspace
from explorer.context import Context
from explorer.pages.runs.score_panel import ScorePanel, share_of
from tests.support.completed import completed
from tests.support.figures import traces


@pytest.fixture
def panel(store: Store, workspace: Workspace) -> ScorePanel:
    nothing: Any = None
    with gr.Blocks():
        return ScorePanel(Context(workspace, store, nothing, nothing, {}, {}))


def test_ppv_and_npv_are_those_at_the_stated_prevalence(
    panel: ScorePanel, store: Store, workspace: Workspace
) -> None:
    run = completed(store, workspace, RunSpec(), skill=2.0, findings=("Edema", "Lung_Opacity"))
    row, finding, own = panel.show({"run": run.id}, None, "")
    assert row.visible
    assert finding.choices == [("Edema", "Edema"), ("Lung Opacity", "Lung_Opacity")]
    assert "at the prevalence of the test split" in own
    _, chosen, stated = panel.show({"run": run.id}, "Lung_Opacity", "2,5 %")
    assert chosen.value == "Lung_Opacity"
    assert "at a prevalence of 2.5%" in stated
    assert "Decision curve, Lung Opacity at a prevalence of 2.5%" in stated
    for html, prevalence in ((own, None), (stated, 0.025)):
        expected = evaluate.evaluate_run(workspace.run(run.id), prevalence=prevalence).findings
        for each in expected:
            for interval in (each.ppv, each.npv):
                low, high = formatting.auroc(interval.low), formatting.auroc(interval.high)
                assert f"{low} to {high}" in html
    curves = [traces(html)["call all"]["y"] for html in (own, stated)]
    assert curves[0] != curves[1]


def test_a_prevalence_that_is_not_possible_is_reported_at_its_field(
    panel: ScorePanel, store: Store, workspace: Workspace
) -> None:
    run = completed(store, workspace, RunSpec())
    _, _, html = panel.show({"run": run.id}, None, "200")
    assert 'data-beside="runs-prevalence"' in html
    assert "“200” is not a possible prevalence." in html
    assert "at the prevalence of the test split" in html
    for text in ("0", "100", "-1", "two", "nan", "inf"):
        with pytest.raises(ConfigurationError, match="not a possible prevalence"):
            share_of(text)
    assert share_of("  ") is None
    assert share_of("12.5%") == pytest.approx(0.125)


def test_another_run_keeps_a_finding_that_it_has(
    panel: ScorePanel, store: Store, workspace: Workspace
) -> None:
    runs = [
        completed(store, workspace, RunSpec.of(**{"train.seed": seed}), findings=findings)
        for seed, findings in enumerate([("Edema", "Mass"), ("Mass", "Hernia")])
    ]
    assert [panel.show({"run": run.id}, "Mass", "")[1].value for run in runs] == ["Mass", "Mass"]
    assert panel.show({"run": runs[1].id}, "Edema", "")[1].value in ("Mass", "Hernia")


def test_without_scores_there_is_nothing_to_choose(
    panel: ScorePanel, store: Store, workspace: Workspace
) -> None:
    for run in (None, "missing", store.create(RunSpec()).id):
        row, _, html = panel.show({"run": run}, None, "2")
        assert not row.visible
        assert html == ""
    run = completed(store, workspace, RunSpec())
    file = workspace.run(run.id) / "predictions" / "test.npz"
    file.write_bytes(b"no archive")
    row, _, html = panel.show({"run": run.id}, None, "2")
    assert not row.visible
    assert "cannot be read" in html


def test_all_folds_are_scored_as_one_model(
    panel: ScorePanel, store: Store, workspace: Workspace
) -> None:
    runs = [
        completed(store, workspace, RunSpec.of(**{"data.fold": f"{k}/3"}), skill=float(k))
        for k in (1, 2, 3)
    ]

    def shown(run: Run) -> str:
        return panel.show({"run": run.id}, None, "")[-1]

    expected = evaluate.evaluate_run(runs[0].folder, others=[run.folder for run in runs[1:]])
    for run in runs:
        assert "All 3 folds in detail" in shown(run)
        assert "600 studies" in shown(run)
        assert formatting.auroc(expected.macro.value) in shown(run)
    store.delete(runs[1].id)
    assert "Test split in detail" in shown(runs[0])
    assert "Fold 1/3 alone." in shown(runs[0])
