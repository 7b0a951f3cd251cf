import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.config.run import RunSpec
from core.errors import RunError, StoreError
from core.runs.run import ACTIVE, MetricRow, RunState
from core.runs.store import Store, open_store
from core.runs.transitions import TRANSITIONS
from core.workspace import Workspace, open_workspace

SPEC = RunSpec.of(**{"data.name": "phantom-5", "adapter.rank": 8})


@pytest.fixture(params=["sqlite", "postgresql"])
def workspace(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    """Every test below holds for both data bases."""
    if request.param == "postgresql":
        monkeypatch.setenv("CXR_STORE", request.getfixturevalue("postgres"))
    return open_workspace(tmp_path / "workspace")


def test_a_worker_makes_no_store(workspace: Workspace) -> None:
    with pytest.raises(StoreError, match="no store of runs"):
        open_store(workspace, create=False)
    assert not workspace.store.exists()


def test_what_was_stored_is_there_again(workspace: Workspace, store: Store) -> None:
    run = store.create(SPEC, name="mine")
    store.log_metrics(run.id, [("val/auroc", 0.7, 1.0, 3)])
    store.close()
    again = open_store(workspace, create=True)
    assert again.get("mine") == run
    assert again.get(run.id).spec == SPEC
    assert again.metrics(run.id) == [MetricRow("val/auroc", 0.7, 1.0, 3, row=0)]
    assert workspace.store.exists() == (workspace.database is None)


# --- runs ----------------------------------------------------------------------------------------


def test_a_new_run_waits_under_its_title(store: Store) -> None:
    run = store.create(SPEC)
    assert run.state is RunState.QUEUED
    assert run.name == SPEC.title()
    assert run.fingerprint == SPEC.fingerprint()
    assert run.attempts == 0


def test_runs_are_found_by_id_its_start_and_name(store: Store) -> None:
    run, other = store.create(SPEC, name="first"), store.create(SPEC, name="second")
    length = next(n for n in range(1, 9) if not other.id.startswith(run.id[:n]))
    for name in (run.id, run.id[:length], "first", f" {run.id} "):
        assert store.get(name) == run


def test_an_unknown_run_is_answered_with_known_ones(store: Store) -> None:
    with pytest.raises(RunError, match="no runs"):
        store.get("nothing")
    run = store.create(SPEC)
    for name in ("nothing", "", "%", run.id + "0"):
        with pytest.raises(RunError, match="Unknown run") as caught:
            store.get(name)
        assert run.id in caught.value.remedy


def test_a_name_of_several_runs_asks_for_an_id(store: Store) -> None:
    ids = {store.create(SPEC, name="twin").id for _ in range(2)}
    with pytest.raises(RunError, match="Several runs") as caught:
        store.get("twin")
    assert all(one in caught.value.remedy for one in ids)


def test_the_list_begins_with_the_latest(store: Store) -> None:
    ids = [store.create(SPEC).id for _ in range(4)]
    assert [run.id for run in store.list()] == ids[::-1]
    assert [run.id for run in store.list(limit=2)] == ids[:1:-1]
    store.transition(ids[1], RunState.STOPPED)
    assert [run.id for run in store.list(states=[RunState.STOPPED])] == [ids[1]]
    assert store.list(states=[]) == []


def test_fields_are_updated_and_state_is_not_one_of_them(store: Store) -> None:
    run = store.create(SPEC)
    store.update(run.id, progress=0.5, phase="training", scores={"test": {"auroc": None}})
    changed = replace(run, progress=0.5, phase="training", scores={"test": {"auroc": None}})
    assert store.get(run.id) == changed
    for field in ("state", "id", "colour"):
        with pytest.raises(ValueError, match=field):
            store.update(run.id, **{field: "x"})
    with pytest.raises(RunError, match="Unknown run"):
        store.update("missing", progress=1.0)


def test_deleting_takes_rows_and_folder(store: Store, workspace: Workspace) -> None:
    run, other = store.create(SPEC), store.create(SPEC)
    for one in (run, other):
        store.log_metrics(one.id, [("train/loss", 1.0, 1.0, 1)])
        workspace.run(one.id).mkdir(parents=True)
    store.delete(run.id)
    with pytest.raises(RunError):
        store.get(run.id)
    assert not workspace.run(run.id).exists()
    assert store.metrics(run.id) == []
    assert workspace.run(other.id).exists()
    assert store.count_metrics(other.id) == 1


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_an_active_run_is_not_deleted(store: Store, workspace: Workspace, state: RunState) -> None:
    run = store.create(SPEC)
    for one in (RunState.STARTING, RunState.RUNNING, RunState.STOPPING):
        store.transition(run.id, one)
        if one is state:
            break
    workspace.run(run.id).mkdir(parents=True)
    with pytest.raises(RunError, match="Stop it first"):
        store.delete(run.id)
    assert workspace.run(run.id).exists()


# --- states --------------------------------------------------------------------------------------


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(list(RunState)), max_size=10))
def test_no_way_leads_around_the_states(store: Store, way: list[RunState]) -> None:
    run = store.create(SPEC)
    for state in way:
        before = store.get(run.id)
        if state in TRANSITIONS[before.state]:
            run = store.transition(run.id, state)
            assert run.state is state
            ended = state not in (RunState.QUEUED, *ACTIVE)
            assert (run.finished_at is not None) == ended
            assert run.stop_requested <= (state is not RunState.QUEUED)
        else:
            with pytest.raises(RunError, match=f"is {before.state}"):
                store.transition(run.id, state)
            assert store.get(run.id) == before


def test_a_change_that_another_made_first_is_not_overwritten(store: Store) -> None:
    run = store.transition(store.create(SPEC).id, RunState.STARTING)
    running = store.transition(run.id, RunState.RUNNING, process="one")
    with pytest.raises(RunError):
        store.transition(run.id, RunState.LOST, seen=run)
    with pytest.raises(RunError):
        store.transition(run.id, RunState.LOST, seen=replace(running, process="another"))
    assert store.get(run.id) == running
    assert store.transition(run.id, RunState.LOST, seen=running).state is RunState.LOST


def test_wall_time_adds_up_over_attempts(store: Store) -> None:
    run = store.create(SPEC)
    for attempt in (1, 2):
        store.transition(run.id, RunState.STARTING)
        run = store.transition(run.id, RunState.RUNNING)
        assert run.attempts == attempt
        assert run.started_at is not None
        store.update(run.id, started_at=run.started_at - 100)
        run = store.transition(run.id, RunState.STOPPED)
        assert run.seconds == pytest.approx(100 * attempt, abs=5)
        run = store.transition(run.id, RunState.QUEUED)
        assert run.started_at is None
    assert run.seconds == pytest.approx(200, abs=5)


def test_the_queue_keeps_its_order_and_a_resumed_run_goes_last(store: Store) -> None:
    one, two, three = (store.create(SPEC) for _ in range(3))
    store.transition(one.id, RunState.STOPPED)
    store.transition(one.id, RunState.QUEUED)
    claimed = [store.claim_next({"cpu": 9}) for _ in range(4)]
    assert [run and run.id for run in claimed] == [two.id, three.id, one.id, None]


def test_no_more_are_claimed_than_there_are_slots(store: Store) -> None:
    for _ in range(3):
        store.create(SPEC)
    assert store.claim_next({"cpu": 1}) is not None
    before = store.version()
    assert store.claim_next({"cpu": 1}) is None
    assert store.version() == before
    assert store.claim_next({"cpu": 2}) is not None


# --- metrics -------------------------------------------------------------------------------------


def test_metrics_come_in_their_order(store: Store) -> None:
    run, other = store.create(SPEC), store.create(SPEC)
    store.log_metrics(run.id, [("train/loss", 0.9, 0.5, 1), ("val/auroc", 0.6, 1.0, 2)])
    store.log_metrics(other.id, [("train/loss", 5.0, 0.5, 1)])
    store.log_metrics(run.id, [("train/loss", math.nan, 1.5, 3), ("train/loss", math.inf, 2, 4)])
    rows = store.metrics(run.id)
    assert [row.row for row in rows] == [0, 1, 2, 3]
    assert [row.step for row in rows] == [1, 2, 3, 4]
    assert math.isnan(rows[2].value)
    assert rows[3].value == math.inf
    assert [row.value for row in store.metrics(run.id, names=["val/auroc"])] == [0.6]
    assert [row.row for row in store.metrics(run.id, after=1)] == [2, 3]
    assert store.count_metrics(run.id) == 4


def test_metrics_after_the_kept_ones_are_forgotten(store: Store) -> None:
    run, other = store.create(SPEC), store.create(SPEC)
    for one in (run, other):
        store.log_metrics(one.id, [("train/loss", float(i), i, i) for i in range(10)])
    store.truncate_metrics(run.id, 4)
    store.log_metrics(run.id, [("train/loss", 40.0, 4, 4)])
    rows = store.metrics(run.id)
    assert [row.value for row in rows] == [0, 1, 2, 3, 40]
    assert [row.row for row in rows] == [0, 1, 2, 3, 4]
    assert store.count_metrics(other.id) == 10
    store.truncate_metrics(run.id, 0)
    assert store.metrics(run.id) == []


def test_values_and_what_changes_with_them_are_stored_together_or_not_at_all(store: Store) -> None:
    run = store.create(SPEC)
    store.log_metrics(run.id, [("val/auroc", 0.7, 1, 1)], best_auroc=0.7)
    assert store.get(run.id).best_auroc == 0.7
    with pytest.raises(ValueError, match="state"):
        store.log_metrics(run.id, [("val/auroc", 0.8, 2, 2)], state="completed")
    assert store.count_metrics(run.id) == 1
    with pytest.raises(RunError):
        store.log_metrics("missing", [("val/auroc", 0.8, 2, 2)])


@pytest.mark.slow
def test_four_threads_write_without_losing_a_row(store: Store) -> None:
    runs = [store.create(SPEC) for _ in range(2)]

    def write(thread: int) -> None:
        for i in range(200):
            store.log_metrics(runs[thread % 2].id, [(f"thread/{thread}", i, i, i)])

    with ThreadPoolExecutor(4) as pool:
        written = [pool.submit(write, i) for i in range(4)]
        while not all(one.done() for one in written):
            store.list()
            store.version()
    for one in written:
        one.result()
    for i in range(4):
        rows = store.metrics(runs[i % 2].id, names=[f"thread/{i}"])
        assert [row.step for row in rows] == list(range(200))


def test_every_change_by_any_process_raises_the_version(workspace: Workspace, store: Store) -> None:
    other = open_store(workspace, create=False)
    seen = [store.version()]
    run = other.create(SPEC)
    seen.append(store.version())
    for change in (
        lambda: other.log_metrics(run.id, [("train/loss", 1.0, 1, 1)]),
        lambda: other.update(run.id, progress=0.1),
        lambda: other.transition(run.id, RunState.STARTING),
        lambda: other.request_stop(run.id),
        lambda: other.truncate_metrics(run.id, 0),
        lambda: other.transition(run.id, RunState.STOPPED),
        lambda: other.delete(run.id),
    ):
        change()
        seen.append(store.version())
    assert seen == sorted(set(seen))
    assert store.version() == seen[-1]


def test_a_sign_of_life_redraws_nothing(store: Store) -> None:
    run = store.create(SPEC)
    before = store.version()
    store.heartbeat(run.id)
    assert store.version() == before
    assert store.get(run.id).heartbeat_at is not None
