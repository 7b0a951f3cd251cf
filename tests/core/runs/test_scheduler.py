"""Runs that a scheduler starts: each once, in order, to its end, or found lost."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from core.errors import RunError
from core.runs import processes, queue
from core.runs.lost_runs import reconcile
from core.runs.queue import PENDING
from core.runs.run import Run, RunState
from core.runs.scheduler import MAX_ATTEMPTS, Scheduler
from core.runs.store import Store, open_store
from core.workspace import Workspace
from tests.support.runs import counting

Command = Callable[[Run], list[str]]
Until = Callable[..., None]


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_run_outlives_its_scheduler(
    store: Store, workspace: Workspace, command: Command, until: Until
) -> None:
    run = queue.submit(store, counting(40), name="slow")
    with serving(Scheduler(store, workspace, command=command)):
        until(lambda: store.get(run.id).state is RunState.RUNNING)
    assert reconcile(open_store(workspace, create=False)) == []
    assert os.getsid(store.get(run.id).pid or 0) != os.getsid(0)
    with serving(Scheduler(store, workspace, command=command)):
        until(lambda: store.get(run.id).state is RunState.COMPLETED)
    assert len(starts(workspace, run)) == 1


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


@pytest.mark.slow
def test_a_run_waits_for_another_to_be_completed(
    store: Store, workspace: Workspace, scheduler: Scheduler, until: Until
) -> None:
    first = queue.submit(store, counting(), name="refused")
    second = queue.submit(store, counting(), name="counts", after=first.id)
    third = queue.submit(store, counting(), name="counts", after=second.id, priority=9)
    assert "is completed" in queue.waiting_reason(store, second)
    assert not queue.waiting_reason(store, first)
    with serving(scheduler):
        until(lambda: store.get(first.id).state is RunState.FAILED)
        until(lambda: queue.idle(store))
        assert [store.get(run.id).state for run in (second, third)] == [RunState.QUEUED] * 2
        assert "which is failed. Resume that run" in queue.waiting_reason(
            store, store.get(second.id)
        )
        store.wait_for(second.id, None)
        assert not queue.idle(store)
        until(lambda: store.get(third.id).state is RunState.COMPLETED)
    done = store.get(second.id).finished_at
    assert done is not None
    assert (store.get(third.id).started_at or 0) >= done
    assert queue.idle(store)


def test_runs_of_other_machines_are_left_to_them_while_they_are_heard_of(
    store: Store, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = queue.claim_here(store, counting())
    store.transition(run.id, RunState.RUNNING, host="elsewhere", pid=1, process="other")
    assert reconcile(store) == []
    scheduler.step()
    monkeypatch.setattr("core.runs.scheduler.SILENT_SECONDS", -1.0)
    store.heartbeat(run.id)
    monkeypatch.setattr("core.runs.scheduler.SILENT_SECONDS", 0.0)
    scheduler.step()
    assert store.get(run.id).state is RunState.RUNNING
    scheduler.step()
    assert store.get(run.id).state is RunState.LOST
    assert "elsewhere" in (store.get(run.id).failure_reason or "")


@pytest.mark.slow
def test_a_run_that_does_not_heed_is_killed_with_all_it_started(
    store: Store, workspace: Workspace, scheduler: Scheduler, until: Until
) -> None:
    run = queue.submit(store, counting(), name="deaf")
    with serving(scheduler):
        until(lambda: (workspace.run(run.id) / "child.txt").exists())
        child = int((workspace.run(run.id) / "child.txt").read_text())
        queue.stop(store, run.id)
        until(lambda: store.get(run.id).state is RunState.STOPPED)
        until(lambda: not processes.alive(child, None), 5)
    stopped = store.get(run.id)
    assert stopped.failure_reason is None
    assert stopped.exit_code == -signal.SIGKILL
    assert queue.resume(store, run.id).state is RunState.QUEUED


@pytest.mark.slow
def test_the_terminal_stops_a_run_without_a_scheduler(
    store: Store, workspace: Workspace, command: Command, until: Until
) -> None:
    run = queue.submit(store, counting(), name="deaf")
    with serving(Scheduler(store, workspace, command=command)):
        until(lambda: (workspace.run(run.id) / "child.txt").exists())
    assert queue.stop_now(store, run.id).state is RunState.STOPPED


@pytest.mark.slow
def test_a_lost_run_is_resumed_by_itself_but_not_for_ever(
    store: Store, workspace: Workspace, command: Command, until: Until
) -> None:
    run = queue.submit(store, counting(), name="dies")
    with serving(Scheduler(store, workspace, command=command, resume_lost=True)):
        until(lambda: store.get(run.id).attempts == MAX_ATTEMPTS, 180)
        until(lambda: store.get(run.id).state is RunState.LOST)
    assert store.get(run.id).exit_code == -signal.SIGKILL
    assert store.get(run.id).failure_kind == "killed"
