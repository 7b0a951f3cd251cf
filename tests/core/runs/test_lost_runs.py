"""Runs whose process has ended are found, and no others."""

import pytest

from core.runs import queue
from core.runs.lost_runs import reconcile
from core.runs.run import RunState
from core.runs.store import Store
from tests.support.runs import counting


@pytest.mark.parametrize(("asked", "state"), [(False, RunState.LOST), (True, RunState.STOPPED)])
def test_another_process_of_the_same_number_is_not_mistaken(
    store: Store, asked: bool, state: RunState
) -> None:
    run = queue.claim_here(store, counting())
    store.transition(run.id, RunState.RUNNING)
    if asked:
        store.request_stop(run.id)
    assert reconcile(store) == []
    store.update(run.id, process="an earlier start")
    assert [one.state for one in reconcile(store)] == [state]


def test_a_run_whose_claimer_died_waits_again(store: Store) -> None:
    one, two = queue.submit(store, counting()), queue.submit(store, counting())
    assert store.claim_next({"cpu": 1})
    assert reconcile(store) == []
    store.update(one.id, process="gone")
    assert [run.state for run in reconcile(store)] == [RunState.QUEUED]
    again = store.claim_next({"cpu": 1})
    assert again is not None
    assert again.id == one.id != two.id
