"""The Compare page: the verdict, what it offers to queue, and the runs that it is asked for."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from core.config.run import RunSpec
from core.evaluation.groups import counterpart
from core.runs.store import Run, RunState, Store
from core.workspace import Workspace
from explorer.components import run_comparison
from explorer.context import Context
from explorer.pages.compare import view
from explorer.pages.compare.page import ComparePage
from tests.support.completed import completed
from tests.support.figures import traces

# Outside an event, Gradio makes a whole component of an update, here without ``multiselect``.
pytestmark = pytest.mark.filterwarnings("ignore:The value passed into gr.Dropdown")

Complete = Callable[..., Run]
FULL = RunSpec.of(**{"adapter.method": "full"})


@pytest.fixture
def complete(store: Store, workspace: Workspace) -> Complete:
    """Makes a completed run with predictions (see ``tests.support.completed``)."""
    return partial(completed, store, workspace, findings=("Edema", "Lung_Opacity"))


@pytest.fixture
def compare_page(store: Store, workspace: Workspace) -> ComparePage:
    nothing: Any = None
    return ComparePage(Context(workspace, store, nothing, nothing, {}, {}))


def pressed(act: str) -> Any:
    return SimpleNamespace(_data={"act": act})


def test_the_verdict_findings_and_settings_are_shown(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    def seeds(spec: RunSpec, skill: float) -> list[str]:
        return [
            complete(
                spec.model_copy(update={"train": spec.train.model_copy(update={"seed": seed})}),
                skill=skill,
            ).id
            for seed in range(3)
        ]

    lora, full = seeds(RunSpec(), 3.0), seeds(FULL, 0.5)
    comparison = run_comparison.compare(store, workspace, [lora[0], full[0]])
    html = view.page(comparison)
    assert traces(html)["LoRA r 4"]["error_y"]["array"][0] > 0
    assert comparison.baseline is not None
    assert comparison.baseline.spec.adapter.method == "full"
    assert comparison.verdicts[0].verdict is not None
    assert comparison.verdicts[0].verdict.sentence in html
    assert "clearly better" in html
    assert "Bring each group to 5 seeds (4 runs, about 4 min)" in html
    assert html.count('data-key="Lung_Opacity"') == 1
    assert "Lung Opacity" in html
    assert f"{lora[0]},{full[0]}" in html
    assert set(comparison.best.values()) == {lora[0]}
    assert 'data-key="adapter.method"' in html
    other = run_comparison.compare(store, workspace, [lora[0], full[0]], lora[0])
    assert other.baseline is not None
    assert other.baseline.spec.adapter.method == "lora"


def test_runs_are_compared_with_the_pixels_of_the_workspace(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    lora = complete(RunSpec(), skill=0.5)
    alone = run_comparison.compare(store, workspace, [lora.id])
    assert alone.pixels == ()
    complete(RunSpec.of(**{"adapter.method": "pixels"}), skill=3.0)
    complete(RunSpec.of(**{"adapter.method": "pixels", "data.label_fraction": 1.0}), skill=0.1)
    comparison = run_comparison.compare(store, workspace, [lora.id])
    (sentence,) = comparison.pixels
    assert sentence.startswith("LoRA r 4 does not beat a ridge regression on 32 × 32 pixels")
    assert sentence in view.page(comparison)


def test_runs_without_scores_say_why(store: Store, workspace: Workspace) -> None:
    runs = [store.create(RunSpec(), name="<i>"), store.create(FULL)]
    html = view.page(run_comparison.compare(store, workspace, [run.id for run in runs]))
    assert "This run is queued." in html
    assert "when two of these runs have completed" in html
    assert "No run has been scored on the test split yet" in html
    assert "cxr-findings" not in html


def test_an_empty_page_queues_two_runs_and_then_a_counterpart(
    store: Store, complete: Complete, compare_page: ComparePage
) -> None:
    assert "Nothing to compare yet" in compare_page.show(None, None, "")[2]
    compare_page.act(None, None, "", pressed("pair"))
    assert {run.spec.adapter.method for run in store.list()} == {"lora", "full"}
    complete(FULL)
    assert "One run has completed" in compare_page.show([], None, "")[2]
    compare_page.act(None, None, "", pressed("partner"))
    latest = store.list()[0]
    assert (latest.spec.adapter.method, latest.state) == ("lora", RunState.QUEUED)


def test_the_page_suggests_adds_and_keeps_runs(
    complete: Complete, compare_page: ComparePage
) -> None:
    lora, full = complete(RunSpec()), complete(FULL)
    choice, baseline, _, _, key = compare_page.open(None, None, "", None)
    assert choice.value == [full.id, lora.id]
    assert baseline.visible
    assert not hasattr(compare_page.show(choice.value, baseline.value, key)[0], "value")
    linear = complete(RunSpec.of(**{"adapter.method": "linear"}))
    request = {"runs": [linear.id]}
    assert compare_page.receive(request, choice.value, key)[0].value == [
        full.id,
        lora.id,
        linear.id,
    ]
    assert compare_page.receive(request, [], key)[0].value[0] == linear.id


def test_a_late_refresh_leaves_the_runs_that_are_shown(
    complete: Complete, compare_page: ComparePage
) -> None:
    ids = [complete(RunSpec()).id, complete(FULL).id]
    drawn = compare_page.receive({"runs": ids}, [], "")[4]
    assert not hasattr(compare_page.refresh([], None, drawn)[0], "value")
    complete(RunSpec.of(**{"adapter.method": "linear"}))
    assert compare_page.refresh(ids, None, drawn)[0].value == ids


def test_folds_are_joined_and_missing_seeds_have_all_of_them(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    def folds(method: str, seed: int, skill: float) -> list[str]:
        return [
            complete(
                RunSpec.of(**{"adapter.method": method, "train.seed": seed, "data.fold": f"{k}/3"}),
                skill=skill,
            ).id
            for k in (1, 2, 3)
        ]

    lora = [folds("lora", seed, 3.0) for seed in range(3)]
    full = [folds("full", seed, 0.5) for seed in range(3)]
    store.delete(full[2][1])  # an incomplete seed
    comparison = run_comparison.compare(store, workspace, [lora[0][0], full[0][0]])
    assert [[len(trial.folders) for trial in group.trials] for group in comparison.groups] == [
        [3, 3, 3], [3, 3],
    ]  # fmt: skip
    html = view.page(comparison)
    assert "Out-of-fold predictions of 3 folds, joined per seed." in html
    missing = run_comparison.missing_seeds(comparison.groups)
    assert len(missing) == 3 * (2 + 3)
    assert {spec.data.fold for spec in missing} == {"1/3", "2/3", "3/3"}


def test_ensembles_are_a_group_of_their_own_and_are_not_trained(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    specs = [RunSpec.of(**{"train.seed": seed}) for seed in range(4)]
    runs = [complete(spec, skill=1.0) for spec in specs]
    made = []
    for spec, members in ((specs[0], runs[:2]), (specs[2], runs[2:])):
        combined = " ".join(["ensemble", *(run.id for run in members)])
        adapter = spec.resolved().adapter.model_copy(update={"combined": combined})
        made.append(complete(spec.model_copy(update={"adapter": adapter}), skill=2.0))
    comparison = run_comparison.compare(store, workspace, [made[0].id, runs[0].id])
    assert [group.title for group in comparison.groups] == ["ensemble of 2 runs", "LoRA r 4"]
    assert [len(group.trials) for group in comparison.groups] == [2, 4]
    missing = run_comparison.missing_seeds(comparison.groups)
    assert [(spec.train.seed, spec.adapter.combined) for spec in missing] == [(4, None)]
    assert counterpart(made[0].spec, "full").adapter.combined is None
