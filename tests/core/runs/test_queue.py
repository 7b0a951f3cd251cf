"""Submitting, stopping and resuming runs, and what a queued run waits for."""

import pytest

from core.errors import RunError
from core.runs import queue
from core.runs.run import RunState
from core.runs.store import Store
from tests.support.runs import counting, specs


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
    assert "was deleted" in queue.waiting_reason(store, two)
    assert store.claim_next({"cpu": 9}) is None


def test_who_is_resumed_goes_on_alone(store: Store) -> None:
    runs = store.create_group(specs(2))
    store.request_stop(runs[0].id)
    again = queue.resume(store, runs[0].id)
    assert (again.state, again.group) == (RunState.QUEUED, None)
    assert store.get(runs[1].id).group is not None
