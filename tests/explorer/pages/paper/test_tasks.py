"""The study's tasks with a workspace's runs: which runs count, what is shown and queued."""

import base64
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from core.config.run import RunSpec
from core.errors import ConfigurationError
from core.experiments.cells import recipe_key
from core.experiments.paper import tasks
from core.experiments.paper.tasks import MINIATURE, TASKS
from core.models.backbones.registry import BACKBONES
from core.runs.run import Run, RunState
from core.runs.store import Store
from core.workspace import Workspace
from explorer import app
from explorer.context import Context
from explorer.pages.launch import form, preview
from explorer.pages.paper import report, results
from explorer.pages.paper.page import PaperPage
from explorer.pages.paper.results import PaperResults, TaskResult
from explorer.pages.paper.tasks import page, recipe
from tests.support.completed import completed
from tests.support.figures import traces

TASK = results.FIRST
Complete = Callable[..., Run]


@pytest.fixture
def complete(store: Store, workspace: Workspace) -> Complete:
    """Makes a completed run with predictions (see ``tests.support.completed``)."""
    return partial(completed, store, workspace, studies=300, findings=("Edema", "Mass", "Nodule"))


@pytest.fixture
def paper_page(store: Store, workspace: Workspace) -> PaperPage:
    nothing: Any = None
    return PaperPage(Context(workspace, store, nothing, nothing, {}, {}))


def gathered(store: Store, workspace: Workspace) -> PaperResults:
    return results.gather(store.list(), workspace)


def shown(paper: PaperResults, workspace: Workspace) -> str:
    return page(paper, report.judgements(paper, workspace))


def task_result(store: Store, workspace: Workspace, name: str = TASK.name) -> TaskResult:
    return gathered(store, workspace).result(tasks.find_task(name))


# --- what counts ---------------------------------------------------------------------------------


def test_an_empty_workspace_has_every_task_and_no_verdict(
    store: Store, workspace: Workspace
) -> None:
    paper = gathered(store, workspace)
    assert (len(paper.miniature), len(paper.tasks)) == (len(MINIATURE), 18)
    assert not any(each.verdict or each.lora.runs or each.others for each in paper.miniature)


def test_lora_clearly_ahead_is_reported(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    runs = [complete(TASK.spec("lora", seed=seed), skill=3.0) for seed in range(3)]
    for seed in range(3):
        complete(TASK.spec("full", seed=seed), skill=0.5)
    result = task_result(store, workspace)
    assert result.verdict is not None
    assert result.verdict.evidence == "above"
    each = [run.scores["test"]["auroc"] for run in runs]
    assert result.lora.auroc == pytest.approx(sum(each) / 3)
    html = shown(gathered(store, workspace), workspace)
    assert "LoRA clearly better" in html
    assert "3 seeds" in html
    assert result.verdict.sentence.split(",")[0] in html
    assert 'data-act="compare"' in html


def test_one_seed_decides_nothing(store: Store, workspace: Workspace, complete: Complete) -> None:
    complete(TASK.spec("lora"), skill=3.0)
    assert "Full is missing" in shown(gathered(store, workspace), workspace)
    complete(TASK.spec("full"), skill=0.5)
    result = task_result(store, workspace)
    assert result.verdict is not None
    assert result.verdict.evidence == "undecided"
    assert "Not decidable" in shown(gathered(store, workspace), workspace)


def test_another_recipe_does_not_count_and_is_mentioned(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    spec = TASK.spec("lora")
    complete(spec.model_copy(update={"train": spec.train.model_copy(update={"epochs": 5})}))
    result = task_result(store, workspace)
    assert not result.lora.runs
    assert result.others == 1
    assert "another recipe" in shown(gathered(store, workspace), workspace)


def test_of_two_runs_with_one_seed_the_later_counts(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    complete(TASK.spec("lora"), skill=1.0)
    later = complete(TASK.spec("lora"), skill=2.0)
    result = task_result(store, workspace)
    assert [run.id for run in result.lora.runs] == [later.id]
    assert result.others == 0


def test_runs_of_the_study_count_wherever_its_files_lie(
    store: Store, workspace: Workspace, complete: Complete, tmp_path: Path
) -> None:
    task = tasks.find_task("mrm-nih-1")
    complete(task.spec("lora", root=tmp_path, weights=tmp_path / "MRM.pth"))
    complete(task.spec("lora", seed=1, root=Path("/elsewhere"), weights=Path("/b/MRM.pth")))
    result = task_result(store, workspace, task.name)
    assert len(result.lora.runs) == 2
    following = results.next_spec(result, "full", store.list())
    assert following.train.seed == 0
    assert following.data.root == Path("/elsewhere")
    assert following.model.weights == Path("/b/MRM.pth")


def test_predictions_that_cannot_be_read_are_an_error_in_words(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    complete(TASK.spec("lora"))
    broken = complete(TASK.spec("full"))
    (workspace.run(broken.id) / "predictions" / "test.npz").write_bytes(b"no archive")
    html = shown(gathered(store, workspace), workspace)
    assert "cannot be compared" in html
    assert "cxr-fault" in html


def test_pending_runs_are_shown(store: Store, workspace: Workspace) -> None:
    run = store.create(TASK.spec("lora"))
    html = shown(gathered(store, workspace), workspace)
    assert f'data-act="run" data-run="{run.id}"' in html
    assert "queued" in html


# --- what comes next -----------------------------------------------------------------------------


def test_the_next_seed_is_one_that_the_other_method_has(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    complete(TASK.spec("lora", seed=4))
    result = task_result(store, workspace)
    assert results.next_spec(result, "full").train.seed == 4
    assert results.next_spec(result, "lora").train.seed == 0


def test_what_is_missing_has_common_seeds_and_is_not_queued_twice(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    complete(TASK.spec("lora", seed=4))
    result = task_result(store, workspace)
    wanted = results.missing([result], 2)
    assert [(s.adapter.method, s.train.seed) for s in wanted] == [
        ("full", 4),
        ("lora", 0),
        ("full", 0),
    ]
    for spec in wanted:
        store.create(spec)
    assert results.missing([task_result(store, workspace)], 2) == []
    assert results.seconds([result], wanted) is None
    assert results.seconds([result], [TASK.spec("lora", seed=9)]) == 60


@pytest.mark.parametrize("method", tasks.PAPER_METHODS)
@pytest.mark.parametrize("task", [*MINIATURE, *TASKS], ids=lambda task: task.name)
def test_the_form_carries_a_recipe_unchanged(task: tasks.Task, method: str) -> None:
    spec = task.spec(method, seed=3, root=Path("/data"), weights=Path("/w.pth"))
    values, percent = form.values_of(spec)
    again = preview.spec_of(values, percent)
    assert recipe_key(again) == recipe_key(spec)
    assert again.fingerprint() == spec.fingerprint()


# --- what is shown -------------------------------------------------------------------------------


def test_the_page_shows_the_question_and_the_published_figures(
    store: Store, workspace: Workspace
) -> None:
    html = shown(gathered(store, workspace), workspace)
    assert "For research and education, not for clinical use" in html
    assert tasks.URL in html
    for claim in tasks.CLAIMS.values():
        assert claim in html
    assert "0.806" in html
    assert "+1.2" in html
    assert html.index("Scaled down: runs") < html.index("The study’s 18 tasks")


def test_tasks_on_unreadable_data_are_not_offered(store: Store, workspace: Workspace) -> None:
    html = shown(gathered(store, workspace), workspace)
    for task in (*MINIATURE, *TASKS):
        offered = f'data-act="launch" data-task="{task.name}"' in html
        assert offered == results.is_possible(task)
    assert len(results.needs(tasks.find_task("mrm-nih-1"))) == 2
    for name in ("mrm", "cxr-mae"):
        assert f'href="{BACKBONES[name].url.split()[0]}"' in html


def test_recipes_name_their_source() -> None:
    text = recipe(tasks.find_task("mrm-rsna-1"), "full")
    assert "Full fine-tuning, 100 epochs, SGD, learning rate 0.01" in text
    assert tasks.FULL_DERIVED in text
    assert "LoRA r 32" in recipe(tasks.find_task("mrm-rsna-100"), "lora")


def test_the_first_comparison_is_offered_until_a_run_is_queued(
    store: Store, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "needs", lambda task: ())
    html = shown(gathered(store, workspace), workspace)
    assert 'data-act="first"' in html
    assert f"{2 * len(MINIATURE)} runs" in html
    store.create(TASK.spec("lora"))
    html = shown(gathered(store, workspace), workspace)
    assert 'data-act="first"' not in html
    assert f"{2 * len(MINIATURE) - 1} runs" in html


def test_the_page_follows_the_data_page() -> None:
    assert list(app.PAGES)[-3:] == ["data", "paper", "help"]
    assert app.PAGES["paper"].TITLE == "Paper"


def test_pending_verdicts_are_announced_first(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    other = MINIATURE[-1]
    for task in (TASK, other):
        complete(task.spec("lora"))
        complete(task.spec("full"))
    early = results.gather(store.list(), workspace, most=0)
    assert early.verdict_pending
    assert "2 being computed" in shown(early, workspace)
    half = results.gather(store.list(), workspace, most=1)
    assert sum(each.verdict_pending for each in half.miniature) == 1
    assert not gathered(store, workspace).verdict_pending
    assert not results.gather(store.list(), workspace, most=0).verdict_pending


# --- what is queued ------------------------------------------------------------------------------


def test_the_first_comparison_and_the_rest_are_queued_once(
    store: Store, paper_page: PaperPage
) -> None:
    paper_page.answer({"act": "first"})
    first = [(run.spec.data.label_fraction, run.spec.adapter.method) for run in store.list()]
    assert sorted(first) == [(0.1, "full"), (0.1, "lora")]
    for _ in range(2):
        paper_page.answer({"act": "all", "seeds": "1"})
        assert len(store.list()) == 2 * len(MINIATURE)
    assert all(run.state is RunState.QUEUED for run in store.list())


def test_an_unknown_task_is_an_error_with_the_known_names(paper_page: PaperPage) -> None:
    with pytest.raises(ConfigurationError, match="mrm-nih-1"):
        paper_page.next_spec("mrm-nih-3", "lora")


def test_a_task_fills_the_launch_form(paper_page: PaperPage) -> None:
    request = {"act": "launch", "task": "mrm-nih-10", "method": "full"}
    _, tabs, launch, *_ = paper_page.answer(request)
    assert tabs.selected == "launch"
    assert RunSpec.from_json(launch["spec"]) == tasks.find_task("mrm-nih-10").spec("full")


# --- the grid as a whole -------------------------------------------------------------------------


def test_each_claim_has_a_status(store: Store, workspace: Workspace, complete: Complete) -> None:
    html = shown(gathered(store, workspace), workspace)
    assert html.count("<b>not decidable</b>") == len(tasks.CLAIMS)
    task = MINIATURE[0]
    for seed in range(2):
        complete(task.spec("lora", seed=seed), skill=3.0)
        complete(task.spec("full", seed=seed), skill=0.5)
    html = shown(gathered(store, workspace), workspace)
    assert "<b>holds</b>" in html  # the trainable share needs no more than that
    assert "0.735% of the parameters" in html
    assert f"{len(MINIATURE) - 1} tasks have not been run yet" in html


def test_the_report_has_curves_files_and_the_figure(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    assert report.page(gathered(store, workspace), workspace) == ""
    for task, skill in zip(MINIATURE[:3], (0.5, 1.0, 2.0), strict=True):
        complete(task.spec("lora"), skill=2.0)
        complete(task.spec("full"), skill=skill)
    html = report.page(gathered(store, workspace), workspace)
    assert html.count("<section") == 1
    for name in ("verdict.md", "verdict.csv", "verdict.tex", "figure.png", "figure.svg"):
        assert f'download="{name}" href="data:' in html
    table = re.search(r'download="verdict.csv" href="data:text/csv;base64,([^"]+)"', html)
    assert table is not None
    rows = base64.b64decode(table[1]).decode().splitlines()
    assert len(rows) == 1 + len(MINIATURE)
    assert rows[1].startswith(MINIATURE[0].name)
    assert "Full fine-tuning needs" in html
    assert {"LoRA", "LoRA, high", "full fine-tuning"} <= set(traces(html))
    assert report.page(gathered(store, workspace), workspace) is not None
