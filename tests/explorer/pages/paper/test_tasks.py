"""The study's tasks beside the workspace's own runs: what counts, what is said, what is offered."""

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
from core.runs.store import Store, open_store
from core.workspace import Workspace
from explorer import app
from explorer.context import Context
from explorer.pages.launch import form, preview
from explorer.pages.paper import page as tab
from explorer.pages.paper import report, results
from explorer.pages.paper import tasks as paperboard
from explorer.pages.paper.results import Board, Cell
from tests.support.completed import completed

TASK = results.FIRST
Complete = Callable[..., Run]


@pytest.fixture
def store(workspace: Workspace) -> Store:
    return open_store(workspace, create=True)


@pytest.fixture
def complete(store: Store, workspace: Workspace) -> Complete:
    """Makes a completed run with predictions (see ``tests.support.completed``)."""
    return partial(completed, store, workspace, studies=300, findings=("Edema", "Mass", "Nodule"))


def board(store: Store, workspace: Workspace) -> Board:
    return results.gather(store.list(), workspace)


def shown(found: Board, workspace: Workspace) -> str:
    return paperboard.page(found, report.judgements(found, workspace))


def cell(store: Store, workspace: Workspace, name: str = TASK.name) -> Cell:
    found = board(store, workspace)
    return next(one for one in (*found.miniature, *found.tasks) if one.task.name == name)


# --- what counts ---------------------------------------------------------------------------------


def test_an_empty_workspace_has_every_task_and_no_verdict(
    store: Store, workspace: Workspace
) -> None:
    found = board(store, workspace)
    assert (len(found.miniature), len(found.tasks)) == (len(MINIATURE), 18)
    assert not any(one.verdict or one.lora.runs or one.others for one in found.miniature)


def test_lora_clearly_ahead_is_said_so(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    runs = [complete(TASK.spec("lora", seed=seed), skill=3.0) for seed in range(3)]
    for seed in range(3):
        complete(TASK.spec("full", seed=seed), skill=0.5)
    one = cell(store, workspace)
    assert one.verdict is not None
    assert one.verdict.evidence == "above"
    each = [run.scores["test"]["auroc"] for run in runs]
    assert one.lora.auroc == pytest.approx(sum(each) / 3)
    html = shown(board(store, workspace), workspace)
    assert "LoRA clearly better" in html
    assert "3 seeds" in html
    assert one.verdict.sentence.split(",")[0] in html
    assert 'data-act="compare"' in html


def test_one_seed_decides_nothing(store: Store, workspace: Workspace, complete: Complete) -> None:
    complete(TASK.spec("lora"), skill=3.0)
    assert "Full is missing" in shown(board(store, workspace), workspace)
    complete(TASK.spec("full"), skill=0.5)
    one = cell(store, workspace)
    assert one.verdict is not None
    assert one.verdict.evidence == "undecided"
    assert "Not decidable" in shown(board(store, workspace), workspace)


def test_another_recipe_does_not_count_and_is_mentioned(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    spec = TASK.spec("lora")
    complete(spec.model_copy(update={"train": spec.train.model_copy(update={"epochs": 5})}))
    one = cell(store, workspace)
    assert not one.lora.runs
    assert one.others == 1
    assert "another recipe" in shown(board(store, workspace), workspace)


def test_of_two_runs_with_one_seed_the_later_counts(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    complete(TASK.spec("lora"), skill=1.0)
    later = complete(TASK.spec("lora"), skill=2.0)
    one = cell(store, workspace)
    assert [run.id for run in one.lora.runs] == [later.id]
    assert one.others == 0


def test_runs_of_the_study_count_wherever_its_files_lie(
    store: Store, workspace: Workspace, complete: Complete, tmp_path: Path
) -> None:
    task = tasks.find_task("mrm-nih-1")
    complete(task.spec("lora", root=tmp_path, weights=tmp_path / "MRM.pth"))
    complete(task.spec("lora", seed=1, root=Path("/elsewhere"), weights=Path("/b/MRM.pth")))
    one = cell(store, workspace, task.name)
    assert len(one.lora.runs) == 2
    next_one = results.next_spec(one, "full", store.list())
    assert next_one.train.seed == 0
    assert next_one.data.root == Path("/elsewhere")
    assert next_one.model.weights == Path("/b/MRM.pth")


def test_runs_on_other_studies_are_a_fault_in_words(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    complete(TASK.spec("lora"))
    broken = complete(TASK.spec("full"))
    (workspace.run(broken.id) / "predictions" / "test.npz").write_bytes(b"no archive")
    html = shown(board(store, workspace), workspace)
    assert "cannot be compared" in html
    assert "cxr-fault" in html


def test_runs_on_their_way_are_shown(store: Store, workspace: Workspace) -> None:
    run = store.create(TASK.spec("lora"))
    html = shown(board(store, workspace), workspace)
    assert f'data-act="run" data-run="{run.id}"' in html
    assert "queued" in html


# --- what comes next -----------------------------------------------------------------------------


def test_the_next_seed_is_the_one_that_the_other_side_has(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    complete(TASK.spec("lora", seed=4))
    one = cell(store, workspace)
    assert results.next_spec(one, "full").train.seed == 4
    assert results.next_spec(one, "lora").train.seed == 0


def test_what_is_missing_has_common_seeds_and_is_not_queued_twice(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    complete(TASK.spec("lora", seed=4))
    one = cell(store, workspace)
    wanted = results.missing([one], 2)
    assert [(s.adapter.method, s.train.seed) for s in wanted] == [
        ("full", 4),
        ("lora", 0),
        ("full", 0),
    ]
    for spec in wanted:
        store.create(spec)
    assert results.missing([cell(store, workspace)], 2) == []
    assert results.seconds([one], wanted) is None
    assert results.seconds([one], [TASK.spec("lora", seed=9)]) == 60


@pytest.mark.parametrize("method", tasks.PAPER_METHODS)
@pytest.mark.parametrize("task", [*MINIATURE, *TASKS], ids=lambda task: task.name)
def test_the_form_carries_a_recipe_unchanged(task: tasks.Task, method: str) -> None:
    spec = task.spec(method, seed=3, root=Path("/data"), weights=Path("/w.pth"))
    values, percent = form.values_of(spec)
    again = preview.spec_of(values, percent)
    assert recipe_key(again) == recipe_key(spec)
    assert again.fingerprint() == spec.fingerprint()


# --- what is shown -------------------------------------------------------------------------------


def test_the_page_says_what_was_asked_and_published(store: Store, workspace: Workspace) -> None:
    html = shown(board(store, workspace), workspace)
    assert "For research and education, not for clinical use" in html
    assert tasks.URL in html
    for claim in tasks.CLAIMS.values():
        assert claim in html
    assert "0.806" in html
    assert "+1.2" in html
    assert html.index("Scaled down: runs") < html.index("The study’s 18 tasks")


def test_what_is_not_read_is_not_offered(store: Store, workspace: Workspace) -> None:
    html = shown(board(store, workspace), workspace)
    for task in (*MINIATURE, *TASKS):
        offered = f'data-act="launch" data-task="{task.name}"' in html
        assert offered == results.possible(task)
    assert len(results.needs(tasks.find_task("mrm-nih-1"))) == 2
    for name in ("mrm", "cxr-mae"):
        assert f'href="{BACKBONES[name].url.split()[0]}"' in html


def test_recipes_name_their_source() -> None:
    words = paperboard.recipe(tasks.find_task("mrm-rsna-1"), "full")
    assert "Full fine-tuning, 100 epochs, SGD, rate 0.01" in words
    assert tasks.FULL_DERIVED in words
    assert "LoRA r 32" in paperboard.recipe(tasks.find_task("mrm-rsna-100"), "lora")


def test_the_first_comparison_is_offered_until_something_was_done(
    store: Store, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "needs", lambda task: ())
    html = shown(board(store, workspace), workspace)
    assert 'data-act="first"' in html
    assert f"{2 * len(MINIATURE)} runs" in html
    store.create(TASK.spec("lora"))
    html = shown(board(store, workspace), workspace)
    assert 'data-act="first"' not in html
    assert f"{2 * len(MINIATURE) - 1} runs" in html


def test_the_page_stands_after_the_data() -> None:
    assert list(app.PAGES)[-3:] == ["data", "paper", "help"]
    assert app.PAGES["paper"].TITLE == "Paper"


def test_a_verdict_that_takes_time_is_announced_first(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    other = MINIATURE[-1]
    for task in (TASK, other):
        complete(task.spec("lora"))
        complete(task.spec("full"))
    early = results.gather(store.list(), workspace, most=0)
    assert early.weighing
    assert "2 being weighed" in shown(early, workspace)
    half = results.gather(store.list(), workspace, most=1)
    assert sum(one.weighing for one in half.miniature) == 1
    assert not board(store, workspace).weighing
    assert not results.gather(store.list(), workspace, most=0).weighing


# --- what is queued ------------------------------------------------------------------------------


def test_the_first_comparison_and_the_rest_are_queued_once(
    store: Store, workspace: Workspace
) -> None:
    nothing: Any = None
    context = Context(workspace, store, nothing, nothing, {}, {})
    tab._act(context, {"act": "first"}, [])
    first = [(run.spec.data.label_fraction, run.spec.adapter.method) for run in store.list()]
    assert sorted(first) == [(0.1, "full"), (0.1, "lora")]
    for _ in range(2):
        tab._act(context, {"act": "all", "seeds": "1"}, [])
        assert len(store.list()) == 2 * len(MINIATURE)
    assert all(run.state is RunState.QUEUED for run in store.list())


def test_an_unknown_task_is_refused_in_words(store: Store, workspace: Workspace) -> None:
    nothing: Any = None
    context = Context(workspace, store, nothing, nothing, {}, {})
    with pytest.raises(ConfigurationError, match="mrm-nih-1"):
        tab._spec(context, "mrm-nih-3", "lora")


def test_a_task_fills_the_launch_form(store: Store, workspace: Workspace) -> None:
    nothing: Any = None
    inboxes = {"launch": nothing, "runs": nothing}
    context = Context(workspace, store, nothing, nothing, inboxes, {})
    asked = {"act": "launch", "task": "mrm-nih-10", "method": "full"}
    _, tabs, launch, _ = tab._act(context, asked, ["launch", "runs"])
    assert tabs.selected == "launch"
    assert RunSpec.from_json(launch["spec"]) == tasks.find_task("mrm-nih-10").spec("full")


# --- the grid as a whole -------------------------------------------------------------------------


def test_each_claim_is_ruled_on(store: Store, workspace: Workspace, complete: Complete) -> None:
    html = shown(board(store, workspace), workspace)
    assert html.count("<b>not decidable</b>") == len(tasks.CLAIMS)
    task = MINIATURE[0]
    for seed in range(2):
        complete(task.spec("lora", seed=seed), skill=3.0)
        complete(task.spec("full", seed=seed), skill=0.5)
    html = shown(board(store, workspace), workspace)
    assert "<b>holds</b>" in html  # the trainable share needs no more than that
    assert "0.735% of the parameters" in html
    assert f"{len(MINIATURE) - 1} tasks have not been run yet" in html


def test_the_report_has_curves_files_and_the_figure(
    store: Store, workspace: Workspace, complete: Complete
) -> None:
    assert report.page(board(store, workspace), workspace) == ""
    for task, skill in zip(MINIATURE[:3], (0.5, 1.0, 2.0), strict=True):
        complete(task.spec("lora"), skill=2.0)
        complete(task.spec("full"), skill=skill)
    html = report.page(board(store, workspace), workspace)
    assert html.count("<section") == 1
    for name in ("verdict.md", "verdict.csv", "verdict.tex", "figure.png", "figure.svg"):
        assert f'download="{name}" href="data:' in html
    table = re.search(r'download="verdict.csv" href="data:text/csv;base64,([^"]+)"', html)
    assert table is not None
    rows = base64.b64decode(table[1]).decode().splitlines()
    assert len(rows) == 1 + len(MINIATURE)
    assert rows[1].startswith(MINIATURE[0].name)
    assert "Full fine-tuning needs" in html
    assert "<polygon" in html
    assert report.page(board(store, workspace), workspace) is not None
