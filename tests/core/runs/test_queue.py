import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.config.run import RunSpec
from core.errors import RunError
from core.runs import processes, queue
from core.runs.queue import PENDING
from core.runs.scheduler import Scheduler
from core.runs.store import Run, RunState, Store, open_store
from core.workspace import Workspace

Command = Callable[[Run], list[str]]
Until = Callable[..., None]


def counting(epochs: int = 3) -> RunSpec:
    return RunSpec.of(**{"train.epochs": epochs})


def starts(workspace: Workspace, run: Run) -> list[str]:
    return (workspace.run(run.id) / "starts.txt").read_text().splitlines()


@contextmanager
def serving(*schedulers: Scheduler) -> Iterator[None]:
    for one in schedulers:
        one.start()
    try:
        yield
    finally:
        for one in schedulers:
            one.stop()


@pytest.fixture
def scheduler(store: Store, workspace: Workspace, command: Command) -> Scheduler:
    return Scheduler(store, workspace, command=command)


def test_two_schedulers_carry_out_each_run_once(
    store: Store, workspace: Workspace, command: Command, until: Until
) -> None:
    runs = [queue.submit(store, counting(), name="counts") for _ in range(20)]
    other = open_store(workspace, create=False)
    with serving(
        Scheduler(store, workspace, slots=3, command=command),
        Scheduler(other, workspace, slots=3, command=command),
    ):
        until(lambda: not store.list(states=PENDING), 180)
    for run in runs:
        assert store.get(run.id).state is RunState.COMPLETED
        assert len(starts(workspace, run)) == 1
        assert store.get(run.id).attempts == 1
        assert store.count_metrics(run.id) == 6


def test_a_slot_is_never_shared(
    store: Store, workspace: Workspace, scheduler: Scheduler, until: Until
) -> None:
    for _ in range(3):
        queue.submit(store, counting(), name="counts")
    most = 0

    def done() -> bool:
        nonlocal most
        states = [run.state for run in store.list(states=PENDING)]
        most = max(most, sum(state is not RunState.QUEUED for state in states))
        return not states

    with serving(scheduler):
        until(done)
    assert most == 1
    ended = [run.finished_at for run in reversed(store.list())]
    assert ended == sorted(ended, key=lambda at: at or 0)


def test_a_killed_run_is_lost_and_goes_on_where_it_was(
    store: Store, workspace: Workspace, scheduler: Scheduler, until: Until
) -> None:
    run = queue.submit(store, counting(40), name="slow")
    with serving(scheduler):
        until(lambda: (store.get(run.id).progress or 0) > 0.1)
        pid = store.get(run.id).pid
        assert pid is not None
        assert pid != os.getpid()
        os.kill(pid, signal.SIGKILL)
        until(lambda: store.get(run.id).state is RunState.LOST)
        lost = store.get(run.id)
        assert lost.failure_kind == "killed"
        assert "SIGKILL" in (lost.failure_reason or "")
        assert "Resume" in (lost.failure_remedy or "")
        assert not processes.alive(pid, lost.process)
        assert queue.resume(store, run.id).failure_reason is None
        until(lambda: store.get(run.id).state is RunState.COMPLETED)
    done = store.get(run.id)
    assert done.attempts == 2
    assert done.best_auroc == pytest.approx(0.9)
    assert [line.split()[1] for line in starts(workspace, run)] == ["False", "True"]
    assert [row.step for row in store.metrics(run.id, names=["val/auroc"])] == list(range(40))
    assert [row.step for row in store.metrics(run.id, names=["train/loss"])] == list(range(40))


def test_a_running_run_is_stopped_with_a_checkpoint(
    store: Store, workspace: Workspace, scheduler: Scheduler, until: Until
) -> None:
    run = queue.submit(store, counting(2000), name="slow")
    with serving(scheduler):
        until(lambda: store.count_metrics(run.id) > 4)
        assert queue.stop(store, run.id).state is RunState.STOPPING
        assert queue.stop(store, run.id).state is RunState.STOPPING
        until(lambda: store.get(run.id).state is RunState.STOPPED)
    stopped = store.get(run.id)
    assert stopped.failure_reason is None
    reached = int((workspace.run(run.id) / "checkpoint.pt").read_text())
    assert store.count_metrics(run.id) == 2 * reached
    with pytest.raises(RunError, match="is stopped"):
        queue.stop(store, run.id)


def test_a_run_outlives_its_scheduler(
    store: Store, workspace: Workspace, command: Command, until: Until
) -> None:
    run = queue.submit(store, counting(40), name="slow")
    with serving(Scheduler(store, workspace, command=command)):
        until(lambda: store.get(run.id).state is RunState.RUNNING)
    assert queue.reconcile(open_store(workspace, create=False)) == []
    assert os.getsid(store.get(run.id).pid or 0) != os.getsid(0)
    with serving(Scheduler(store, workspace, command=command)):
        until(lambda: store.get(run.id).state is RunState.COMPLETED)
    assert len(starts(workspace, run)) == 1


def test_a_queued_run_is_stopped_at_once_and_may_return(store: Store) -> None:
    run = queue.submit(store, counting())
    assert queue.stop(store, run.id).state is RunState.STOPPED
    with pytest.raises(RunError):
        queue.stop(store, run.id)
    resumed = queue.resume(store, run.id)
    assert resumed.state is RunState.QUEUED
    assert not resumed.stop_requested
    with pytest.raises(RunError, match="nothing to resume"):
        queue.resume(store, run.id)


def test_a_process_that_dies_before_it_works_leaves_its_last_words(
    store: Store, scheduler: Scheduler, until: Until
) -> None:
    run = queue.submit(store, counting(), name="dies before")
    with serving(scheduler):
        until(lambda: store.get(run.id).state is RunState.FAILED)
    failed = store.get(run.id)
    assert "there is no such module" in (failed.failure_reason or "")
    assert failed.failure_remedy
    assert failed.attempts == 0


def test_a_program_that_is_not_there_fails_the_run(
    store: Store, workspace: Workspace, until: Until
) -> None:
    run = queue.submit(store, counting())
    with serving(Scheduler(store, workspace, command=lambda run: [str(workspace.root / "no")])):
        until(lambda: store.get(run.id).state is RunState.FAILED)
    assert "could not be started" in (store.get(run.id).failure_reason or "")


def test_arguments_reach_the_process_as_they_are(
    store: Store, workspace: Workspace, until: Until
) -> None:
    nasty = "a b; touch $HOME `date` 'x' \"y\" *"
    code = "import sys; print(sys.argv[1])"
    run = queue.submit(store, counting())
    command = [sys.executable, "-c", code, nasty]
    with serving(Scheduler(store, workspace, command=lambda run: command)):
        until(lambda: store.get(run.id).state is RunState.FAILED)
    assert (workspace.run(run.id) / "log.txt").read_text().strip() == nasty


@pytest.mark.parametrize(("asked", "state"), [(False, RunState.LOST), (True, RunState.STOPPED)])
def test_another_process_of_the_same_number_is_not_mistaken(
    store: Store, asked: bool, state: RunState
) -> None:
    run = queue.claim_here(store, counting())
    store.transition(run.id, RunState.RUNNING)
    if asked:
        store.request_stop(run.id)
    assert queue.reconcile(store) == []
    store.update(run.id, process="an earlier start")
    assert [one.state for one in queue.reconcile(store)] == [state]


def test_a_run_whose_claimer_died_waits_again(store: Store) -> None:
    one, two = queue.submit(store, counting()), queue.submit(store, counting())
    assert store.claim_next({"cpu": 1})
    assert queue.reconcile(store) == []
    store.update(one.id, process="gone")
    assert [run.state for run in queue.reconcile(store)] == [RunState.QUEUED]
    again = store.claim_next({"cpu": 1})
    assert again is not None
    assert again.id == one.id != two.id


def test_runs_of_other_machines_are_left_to_them_while_they_are_heard_of(
    store: Store, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = queue.claim_here(store, counting())
    store.transition(run.id, RunState.RUNNING, host="elsewhere", pid=1, process="other")
    assert queue.reconcile(store) == []
    scheduler.step()
    monkeypatch.setattr(queue, "SILENT_SECONDS", -1.0)
    store.heartbeat(run.id)
    monkeypatch.setattr(queue, "SILENT_SECONDS", 0.0)
    scheduler.step()
    assert store.get(run.id).state is RunState.RUNNING
    scheduler.step()
    assert store.get(run.id).state is RunState.LOST
    assert "elsewhere" in (store.get(run.id).failure_reason or "")


def test_the_last_line_of_a_log_is_found(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert processes.last_line(log) == ""
    log.write_bytes(b"x" * 9000 + b"\nfirst\n  last \xff words\n\n \n")
    assert processes.last_line(log) == "last \ufffd words"


# --- the order -----------------------------------------------------------------------------------


def order(store: Store) -> list[str]:
    waiting = store.list(states=[RunState.QUEUED])
    return [run.name for run in sorted(waiting, key=lambda run: run.turn)]


def claimed(store: Store) -> list[str]:
    found = []
    while run := store.claim_next({"cpu": 99}):
        found.append(run.name)
    return found


def test_a_queued_run_can_be_moved(store: Store) -> None:
    ids = {name: queue.submit(store, counting(), name=name).id for name in "abcd"}
    for name, where, expected in (
        ("c", "first", "cabd"),
        ("a", "up", "acbd"),
        ("a", "up", "acbd"),
        ("c", "down", "abcd"),
        ("a", "last", "bcda"),
        ("a", "down", "bcda"),
        ("a", "last", "bcda"),
        ("b", "first", "bcda"),
    ):
        store.move(ids[name], where)
        assert order(store) == list(expected), (name, where)
    assert claimed(store) == list("bcda")
    with pytest.raises(RunError, match="not queued"):
        store.move(ids["a"], "up")
    with pytest.raises(RunError, match="Did you mean first"):
        store.move(ids["a"], "frist")
    with pytest.raises(RunError, match="Unknown run"):
        store.move("missing", "up")


def test_a_higher_priority_goes_first_and_who_passes_joins_it(store: Store) -> None:
    plain = queue.submit(store, counting(), name="plain")
    queue.submit(store, counting(), name="urgent", priority=5)
    queue.submit(store, counting(), name="idle", priority=-1)
    queue.submit(store, counting(), name="second")
    assert order(store) == ["urgent", "plain", "second", "idle"]
    store.move(plain.id, "up")
    assert order(store) == ["plain", "urgent", "second", "idle"]
    assert store.get(plain.id).priority == 5
    store.move(plain.id, "last")
    assert order(store) == ["urgent", "second", "idle", "plain"]
    assert claimed(store) == ["urgent", "second", "idle", "plain"]


def test_a_run_waits_for_another_to_be_completed(
    store: Store, workspace: Workspace, scheduler: Scheduler, until: Until
) -> None:
    first = queue.submit(store, counting(), name="refused")
    second = queue.submit(store, counting(), name="counts", after=first.id)
    third = queue.submit(store, counting(), name="counts", after=second.id, priority=9)
    assert "to be completed" in queue.waits(store, second)
    assert not queue.waits(store, first)
    with serving(scheduler):
        until(lambda: store.get(first.id).state is RunState.FAILED)
        until(lambda: queue.idle(store))
        assert [store.get(run.id).state for run in (second, third)] == [RunState.QUEUED] * 2
        assert "which is failed. Resume that one" in queue.waits(store, store.get(second.id))
        store.wait_for(second.id, None)
        assert not queue.idle(store)
        until(lambda: store.get(third.id).state is RunState.COMPLETED)
    done = store.get(second.id).finished_at
    assert done is not None
    assert (store.get(third.id).started_at or 0) >= done
    assert queue.idle(store)


def test_a_run_never_waits_for_what_cannot_come(store: Store) -> None:
    one = queue.submit(store, counting())
    two = queue.submit(store, counting(), after=one.id)
    three = queue.submit(store, counting(), after=two.id)
    for other in (one, two, three):
        with pytest.raises(RunError, match="waits for it"):
            store.wait_for(one.id, other.id)
    with pytest.raises(RunError, match="Unknown run"):
        store.wait_for(one.id, "missing")
    with pytest.raises(RunError, match="Unknown run"):
        queue.submit(store, counting(), after="missing")
    store.delete(one.id)
    assert "was deleted" in queue.waits(store, two)
    assert store.claim_next({"cpu": 9}) is None


def test_each_device_has_its_own_slots(store: Store) -> None:
    def on(device: str) -> str:
        spec = RunSpec.of(**{"train.device": device})
        return queue.submit(store, spec, name=device).name

    slots = {"cuda:0": 1, "cuda:1": 1, "cpu": 1}
    for device in ("cuda:1", "cuda:1", "auto", "cpu", "cpu", "cuda", "auto"):
        on(device)
    taken = []
    while run := store.claim_next(slots):
        taken.append((run.name, run.slot))
    assert taken == [("cuda:1", "cuda:1"), ("auto", "cuda:0"), ("cpu", "cpu")]
    freed = next(run for run in store.list(states=[RunState.STARTING]) if run.slot == "cuda:0")
    store.transition(freed.id, RunState.FAILED)
    again = store.claim_next(slots)
    assert again is not None
    assert (again.name, again.slot) == ("cuda", "cuda:0")
    assert store.claim_next({**slots, "cuda:0": 0}) is None


# --- stopping and losing -------------------------------------------------------------------------


def test_a_run_that_does_not_heed_is_killed_with_all_it_started(
    store: Store, workspace: Workspace, scheduler: Scheduler, until: Until
) -> None:
    run = queue.submit(store, counting(), name="deaf")
    with serving(scheduler):
        until(lambda: (workspace.run(run.id) / "child.txt").exists())
        child = int((workspace.run(run.id) / "child.txt").read_text())
        started = time.monotonic()
        queue.stop(store, run.id)
        until(lambda: store.get(run.id).state is RunState.STOPPED)
        assert time.monotonic() - started < 5
        until(lambda: not processes.alive(child, None), 5)
    stopped = store.get(run.id)
    assert stopped.failure_reason is None
    assert stopped.exit_code == -signal.SIGKILL
    assert queue.resume(store, run.id).state is RunState.QUEUED


def test_the_terminal_stops_a_run_without_a_scheduler(
    store: Store, workspace: Workspace, command: Command, until: Until
) -> None:
    run = queue.submit(store, counting(), name="deaf")
    with serving(Scheduler(store, workspace, command=command)):
        until(lambda: (workspace.run(run.id) / "child.txt").exists())
    started = time.monotonic()
    assert queue.stop_now(store, run.id).state is RunState.STOPPED
    assert time.monotonic() - started < 5


def test_a_lost_run_is_resumed_by_itself_but_not_for_ever(
    store: Store, workspace: Workspace, command: Command, until: Until
) -> None:
    run = queue.submit(store, counting(), name="dies")
    with serving(Scheduler(store, workspace, command=command, resume_lost=True)):
        until(lambda: store.get(run.id).attempts == queue.MOST_ATTEMPTS, 180)
        until(lambda: store.get(run.id).state is RunState.LOST)
    assert store.get(run.id).exit_code == -signal.SIGKILL
    assert store.get(run.id).failure_kind == "killed"
