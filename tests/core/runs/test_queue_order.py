"""The order in which queued runs are claimed."""

import pytest

from core.config.run import RunSpec
from core.errors import RunError
from core.runs import queue
from core.runs.run import RunState
from core.runs.store import Store
from tests.support.runs import counting, specs


def order(store: Store) -> list[str]:
    waiting = store.list(states=[RunState.QUEUED])
    return [run.name for run in sorted(waiting, key=lambda run: run.queue_key)]


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


def test_those_that_wait_are_claimed_with_the_first(store: Store) -> None:
    runs = store.create_group(specs(3))
    alone = queue.submit(store, RunSpec())
    store.request_stop(runs[1].id)
    first = store.claim_next({"cpu": 1})
    assert first is not None
    assert first.id == runs[0].id
    assert [run.id for run in store.claim_group(first)] == [runs[2].id]
    claimed = store.get(runs[2].id)
    assert (claimed.state, claimed.slot) == (RunState.STARTING, "cpu")
    assert claimed.process == first.process
    assert store.get(alone.id).state is RunState.QUEUED
    assert store.claim_group(alone) == []


def test_a_party_takes_one_slot(store: Store) -> None:
    runs = store.create_group(specs(3))
    alone = queue.submit(store, RunSpec())
    first = store.claim_next({"cpu": 2})
    assert first is not None
    store.claim_group(first)
    second = store.claim_next({"cpu": 2})
    assert second is not None
    assert second.id == alone.id
    queue.submit(store, RunSpec())
    assert store.claim_next({"cpu": 2}) is None
    assert {run.group for run in runs} == {first.group}
