"""The table of runs."""

from dataclasses import replace

from core.config.run import RunSpec
from core.runs.run import RunState
from core.runs.store import Store
from explorer.components import run_table


def test_an_empty_table_offers_the_example(store: Store) -> None:
    assert 'data-act="example"' in run_table.table(store, [], None, True)


def test_the_table_marks_the_selected_run(store: Store) -> None:
    one, two = store.create(RunSpec()), store.create(RunSpec())
    html = run_table.table(store, [one, two], two.id, False)
    assert html.count("aria-current") == 1
    assert f'id="row-{two.id}"' in html.split("aria-current")[0].rsplit("<tr", 1)[1]


def test_queued_runs_show_their_place(store: Store) -> None:
    runs = [store.create(RunSpec()) for _ in range(3)]
    store.move(runs[2].id, "first")
    html = run_table.table(store, store.list(), None, False)
    rows = {part[:8]: part for part in html.split('id="row-')[1:]}
    for run, place in zip(runs, ("2 of 3", "3 of 3", "1 of 3"), strict=True):
        assert f">{place} in queue<" in rows[run.id]


def test_a_name_cannot_break_the_table(store: Store) -> None:
    run = store.create(RunSpec(), name="<script>alert(1)</script>")
    html = run_table.table(store, [run], run.id, True)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_the_latest_is_the_active_run(store: Store) -> None:
    first, second = store.create(RunSpec()), store.create(RunSpec())
    first = replace(first, created_at=1.0)
    second = replace(second, created_at=2.0)
    assert run_table.latest([first, second]) == second
    running = replace(first, state=RunState.RUNNING, started_at=3.0)
    assert run_table.latest([running, second]) == running
    assert run_table.latest([]) is None


def test_the_spark_follows_the_validation_auroc(store: Store) -> None:
    run = store.create(RunSpec())
    for epoch, value in ((1, 0.6), (2, 0.75)):
        store.log_metrics(run.id, [("val/auroc", value, epoch, epoch)])
    assert run_table.validation_curves(store, [store.get(run.id)]) == {run.id: [0.6, 0.75]}
    assert "best 0.750" in run_table.table(store, [store.get(run.id)], None, True)
