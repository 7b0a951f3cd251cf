"""Runs that start together: claimed at once, one slot, and nobody else dies of one that stops."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from core.config.run import RunSpec
from core.runs import processes, queue, stop
from core.runs.run import Run, RunState
from core.runs.store import Store

DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('ready', flush=True); time.sleep(600)"
)


def specs(count: int) -> list[RunSpec]:
    return [RunSpec.of(**{"train.seed": seed}) for seed in range(count)]


def test_those_that_wait_are_claimed_with_the_first(store: Store) -> None:
    runs = store.create_group(specs(3))
    alone = queue.submit(store, RunSpec())
    store.request_stop(runs[1].id)
    first = store.claim_next({"cpu": 1})
    assert first is not None
    assert first.id == runs[0].id
    assert [run.id for run in store.claim_party(first)] == [runs[2].id]
    claimed = store.get(runs[2].id)
    assert (claimed.state, claimed.slot) == (RunState.STARTING, "cpu")
    assert claimed.process == first.process
    assert store.get(alone.id).state is RunState.QUEUED
    assert store.claim_party(alone) == []


def test_a_party_takes_one_slot(store: Store) -> None:
    runs = store.create_group(specs(3))
    alone = queue.submit(store, RunSpec())
    first = store.claim_next({"cpu": 2})
    assert first is not None
    store.claim_party(first)
    second = store.claim_next({"cpu": 2})
    assert second is not None
    assert second.id == alone.id
    queue.submit(store, RunSpec())
    assert store.claim_next({"cpu": 2}) is None
    assert {run.party for run in runs} == {first.party}


def test_who_is_resumed_goes_on_alone(store: Store) -> None:
    runs = store.create_group(specs(2))
    store.request_stop(runs[0].id)
    again = queue.resume(store, runs[0].id)
    assert (again.state, again.party) == (RunState.QUEUED, None)
    assert store.get(runs[1].id).party is not None


def test_a_process_is_not_killed_while_others_of_it_go_on(
    store: Store, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    monkeypatch.setattr(stop, "ASK_AFTER", 0.0)
    monkeypatch.setattr(stop, "KILL_AFTER", 0.0)
    with subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        at_work = {
            "host": processes.host(), "pid": process.pid, "slot": "cpu",
            "process": processes.started(process.pid), "heartbeat_at": time.time(),
        }  # fmt: skip
        one, other = (
            replace(queue.submit(store, spec), state=state, **at_work)
            for spec, state in zip(specs(2), [RunState.STOPPING, RunState.RUNNING], strict=True)
        )
        enforcing = stop.Stopping()
        for _ in range(3):
            enforcing.enforce([one, other])
            time.sleep(0.05)
        assert process.poll() is None

        def ended() -> bool:
            gone: list[Run] = [one, replace(other, state=RunState.STOPPING)]
            enforcing.enforce(gone)
            return process.poll() is not None

        until(ended)
