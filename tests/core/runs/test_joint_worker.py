"""Several runs in one process: each ends for itself, and a stop finds the one that it is for."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from core.config.run import RunSpec
from core.errors import ConfigurationError, NotFiniteError, Stopped
from core.runs import joint_worker, queue
from core.runs.joint_worker import Member
from core.runs.run import Run, RunState
from core.runs.store import Store
from core.workspace import Workspace

End = Callable[[], dict[str, Any]]
RESULT = {"scores": {"test": {"auroc": 0.8, "per_finding": {}, "studies": 3}}}


@pytest.fixture
def do(store: Store, workspace: Workspace) -> Callable[..., tuple[list[Run], int]]:
    """Carry out three runs in this process."""

    def carry_out(execute: joint_worker.Execute) -> tuple[list[Run], int]:
        ids = [queue.claim_here(store, RunSpec(), f"run {i}").id for i in range(3)]
        code = joint_worker.work(store, workspace, ids, execute)
        return [store.get(one) for one in ids], code

    return carry_out


def ending(error: Exception) -> End:
    def end() -> dict[str, Any]:
        raise error

    return end


def until_stopped(members: Sequence[Member], seconds: float = 1.0) -> Iterator[tuple[int, End]]:
    """Let the runs work for a while; those that are asked to stop do so."""
    working, ends = dict(enumerate(members)), time.monotonic() + seconds
    while working and time.monotonic() < ends:
        for number, member in list(working.items()):
            if member.report.stop_requested():
                del working[number]
                yield number, ending(Stopped())
        time.sleep(0.02)
    for number in working:
        yield number, lambda: RESULT


def test_each_run_ends_for_itself(do: Callable[..., tuple[list[Run], int]]) -> None:
    def execute(members: Sequence[Member], cache: Path) -> Iterator[tuple[int, End]]:
        assert [member.folder.is_dir() for member in members] == [True] * 3
        members[2].report.metric("val/auroc", 0.75, epoch=1, step=3)
        yield 1, ending(NotFiniteError("The loss is not finite.", "Lower the learning rate."))
        yield 0, lambda: RESULT
        yield 2, ending(Stopped())

    runs, code = do(execute)
    assert [run.state for run in runs] == ["completed", "failed", "stopped"]
    assert code == 1
    assert runs[0].scores == RESULT["scores"]
    assert runs[0].seconds is not None  # of all three: a forecast of one is not made from it
    assert runs[0].seconds_alone is None
    assert (runs[1].failure_kind, runs[2].failure_kind) == ("not finite", None)
    assert runs[2].best_auroc == 0.75
    assert "The run is failed" in Path(runs[1].log or "").read_text()


def test_what_hinders_all_is_said_of_each(do: Callable[..., tuple[list[Run], int]]) -> None:
    def execute(members: Sequence[Member], cache: Path) -> Iterator[tuple[int, End]]:
        yield 0, lambda: RESULT
        raise ConfigurationError("They do not fit.", "Queue them.")

    runs, _ = do(execute)
    assert [run.state for run in runs] == ["completed", "failed", "failed"]
    assert {run.failure_reason for run in runs[1:]} == {"They do not fit."}


def test_a_stop_is_for_one_of_them_also_when_the_queue_reminds_it(
    do: Callable[..., tuple[list[Run], int]], store: Store
) -> None:
    def execute(members: Sequence[Member], cache: Path) -> Iterator[tuple[int, End]]:
        store.request_stop(members[1].folder.name)
        os.kill(os.getpid(), signal.SIGTERM)
        yield from until_stopped(members)

    runs, code = do(execute)
    assert [run.state for run in runs] == ["completed", "stopped", "completed"]
    assert code == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_stops_all(do: Callable[..., tuple[list[Run], int]], name: str) -> None:
    def execute(members: Sequence[Member], cache: Path) -> Iterator[tuple[int, End]]:
        os.kill(os.getpid(), getattr(signal, name))
        yield from until_stopped(members, seconds=30.0)

    runs, _ = do(execute)
    assert {run.state for run in runs} == {RunState.STOPPED}
    assert f"Stop requested by {name}" in Path(runs[0].log or "").read_text()


def test_one_that_was_stopped_before_it_began_is_left_out(
    store: Store, workspace: Workspace
) -> None:
    ids = [queue.claim_here(store, RunSpec()).id for _ in range(2)]
    store.request_stop(ids[0])

    def execute(members: Sequence[Member], cache: Path) -> Iterator[tuple[int, End]]:
        assert len(members) == 1
        yield 0, lambda: RESULT

    assert joint_worker.work(store, workspace, ids, execute) == 0
    assert [store.get(one).state for one in ids] == ["stopped", "completed"]
