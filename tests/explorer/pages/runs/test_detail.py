"""One run in detail: its buttons, results, log and place in the queue."""

import json
from dataclasses import replace

import pytest

from core.config.run import RunSpec
from core.export import export
from core.runs.store import Run, RunState, Store
from core.workspace import Workspace
from explorer.components import run_table
from explorer.pages.runs import detail
from tests.support.figures import traces


def in_state(run: Run, state: RunState, **fields: object) -> Run:
    return replace(run, state=state, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "possible"),
    [
        (RunState.QUEUED, {"stop", "new", "delete"}),
        (RunState.RUNNING, {"stop", "new"}),
        (RunState.STOPPING, {"new"}),
        (RunState.STOPPED, {"resume", "new", "delete"}),
        (RunState.FAILED, {"resume", "new", "delete"}),
        (RunState.LOST, {"resume", "new", "delete"}),
        (RunState.COMPLETED, {"new", "compare", "saliency", "export", "delete"}),
    ],
)
def test_buttons_follow_the_state(
    store: Store, workspace: Workspace, state: RunState, possible: set[str]
) -> None:
    html = detail.detail(store, workspace, in_state(store.create(RunSpec()), state), False)
    offered = {
        button.split('data-act="')[1].split('"')[0]
        for button in html.split("<button")[1:]
        if " disabled" not in button.split(">")[0]
    }
    assert offered - {"copy"} == possible


def test_a_failed_run_says_reason_and_remedy_before_the_traceback(
    store: Store, workspace: Workspace
) -> None:
    run = in_state(
        store.create(RunSpec()), RunState.FAILED, failure_reason="The loss became NaN.",
        failure_remedy="Lower the learning rate.", traceback="Traceback <…>",
    )  # fmt: skip
    html = detail.detail(store, workspace, run, False)
    assert html.index("became NaN") < html.index("Lower the") < html.index("Traceback &lt;")
    assert "<details>" in html.split("Traceback &lt;")[0]


def test_the_detail_shows_curves_scores_and_log(store: Store, workspace: Workspace) -> None:
    run = store.create(RunSpec())
    store.log_metrics(
        run.id,
        [
            ("train/loss", 0.4, 0.5, 1),
            ("val/auroc", 0.7, 1.0, 2),
            ("val/auroc/Edema", 0.8, 1.0, 2),
            ("val/auroc/Mass", 0.6, 1.0, 2),
        ],
    )
    folder = workspace.run(run.id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.txt").write_text("first line\nsecond & last line\n")
    result = {"device": "cpu", "peak_host_bytes": 1_840_000_000, "predicted_bytes": 1_500_000_000}
    (folder / "result.json").write_text(json.dumps(result))
    scores = {"auroc": 0.71, "per_finding": {"Edema": 0.71, "Hernia": None}, "studies": 9}
    done = in_state(store.get(run.id), RunState.COMPLETED, scores={"test": scores})
    html = detail.detail(store, workspace, done, False)
    assert set(traces(html)) == {"mean", "Edema", "Mass", "training"}
    assert "second &amp; last line" in html
    assert "0.710" in html
    assert "memory <b>1.8 GB at most, about 1.5 GB predicted" in html
    assert 'data-finding="Edema"' in html


def test_a_run_that_validates_by_budget_shows_its_part_until_the_whole_is_scored(
    store: Store, workspace: Workspace
) -> None:
    run = store.create(RunSpec())
    rows = [
        (f"val-part/auroc{finding}", value + epoch / 100, float(epoch), epoch)
        for epoch in (1, 2, 3)
        for finding, value in (("/Edema", 0.8), ("/Mass", 0.6), ("", 0.7))
    ]
    store.log_metrics(run.id, rows)
    running = in_state(store.get(run.id), RunState.RUNNING)
    html = detail.detail(store, workspace, running, False)
    assert "best AUROC on part of the validation split <b>0.730 at epoch 3" in html
    assert traces(html)["Edema"]["y"] == [0.81, 0.82, 0.83]
    assert "mean on the whole split" not in traces(html)
    part = [0.71, 0.72, 0.73]
    assert run_table.validation_curves(store, [running]) == {run.id: pytest.approx(part)}

    store.log_metrics(run.id, [("val/auroc", 0.75, 2.0, 2), ("val/auroc", 0.74, 3.0, 3)])
    store.update(run.id, best_auroc=0.75, last_auroc=0.74)
    html = detail.detail(store, workspace, store.get(run.id), False)
    assert "best validation AUROC <b>0.750 at epoch 2" in html
    assert traces(html)["mean on the whole split"]["y"] == [0.75, 0.74]
    assert traces(html)["mean"]["y"] == pytest.approx(part)
    assert run_table.validation_curves(store, [store.get(run.id)]) == {run.id: pytest.approx(part)}


def test_only_the_end_of_a_long_log_is_read(workspace: Workspace) -> None:
    file = workspace.root / "log.txt"
    file.write_text("".join(f"line {i}\n" for i in range(5000)))
    shown = detail.tail(file, 200)
    assert shown.endswith("line 4999")
    assert shown.splitlines()[0].startswith("line ")
    assert len(shown) <= 200
    assert detail.tail(workspace.root / "none.txt") == ""


def test_the_address_names_the_run_unless_the_page_follows(
    store: Store, workspace: Workspace
) -> None:
    run = store.create(RunSpec())
    assert run.id in detail.detail(store, workspace, run, False).split("data-address")[1][:80]
    assert "null" in detail.detail(store, workspace, run, True).split("data-address")[1][:80]


def test_a_queued_run_says_its_place_and_can_be_moved(store: Store, workspace: Workspace) -> None:
    first = store.create(RunSpec())
    second = store.create(RunSpec(), after=first.id)
    html = detail.detail(store, workspace, second, False)
    assert "Number 2 of 2 in the queue" in html
    assert "is completed" in html
    assert 'data-act="release"' in html
    assert html.count('data-act="move"') == 3
    later = html.split('data-where="down"')[1].split(">")[0]
    assert "disabled" in later
    assert "disabled" not in html.split('data-where="up"')[1].split(">")[0]
    store.move(second.id, "first")
    html = detail.detail(store, workspace, store.get(second.id), False)
    assert "Number 1 of 2 in the queue" in html


def test_only_a_completed_run_offers_formats(store: Store, workspace: Workspace) -> None:
    run = store.create(RunSpec())
    for state in RunState:
        html = detail.detail(store, workspace, in_state(run, state), False)
        completed = state is RunState.COMPLETED
        assert html.count('data-act="export"') == (len(export.FORMATS) if completed else 0)
        assert ("Only completed runs can be exported" in html) is not completed
