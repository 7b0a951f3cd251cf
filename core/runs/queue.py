"""Queue of runs: submit, stop, resume, and what a queued run waits for."""

from __future__ import annotations

import time

from core.config.run import RunSpec
from core.errors import RunError
from core.runs.lost_runs import reconcile
from core.runs.run import ACTIVE, Run, RunState
from core.runs.stop import KILL_AFTER, StopEnforcer
from core.runs.store import Store

PENDING = (RunState.QUEUED, RunState.STARTING, RunState.RUNNING, RunState.STOPPING)
"""States of a run that has not ended."""

RESUMABLE = (RunState.STOPPED, RunState.FAILED, RunState.LOST)
"""States from which a run can be resumed."""


def submit(
    store: Store,
    spec: RunSpec,
    name: str | None = None,
    *,
    priority: int = 0,
    after: str | None = None,
) -> Run:
    """Add a run to the queue.

    Args:
        store: The store.
        spec: Its specification.
        name: Name shown to the user; by default the title of the specification.
        priority: Runs with a higher priority start first.
        after: Id of a run that must be completed before this one starts.

    Raises:
        RunError: There is no run with the id ``after``.
    """
    return store.create(spec, name, priority=priority, after=after)


def claim_here(store: Store, spec: RunSpec, name: str | None = None) -> Run:
    """Create a run that this process executes itself, without the queue."""
    return store.create(spec, name, state=RunState.STARTING)


def stop(store: Store, run_id: str) -> Run:
    """Stop a run: at once if it is queued, else as soon as its process has written a checkpoint.

    Raises:
        RunError: There is no such run, or it has ended.
    """
    reconcile(store)
    return store.request_stop(run_id)


def stop_now(store: Store, run_id: str) -> Run:
    """Stop a run and wait for its end, which takes at most five seconds on this machine.

    Raises:
        RunError: There is no such run, or it has ended.
    """
    run = stop(store, run_id)
    enforcer, until = StopEnforcer(), time.monotonic() + KILL_AFTER + 3.0
    while run.state is RunState.STOPPING and time.monotonic() < until:
        enforcer.enforce([run])
        time.sleep(0.1)
        reconcile(store)
        run = store.get(run.id)
    return run


def waiting_reason(store: Store, run: Run) -> str:
    """The run that a queued run waits for, as a sentence; empty if it only waits for a slot."""
    if run.state is not RunState.QUEUED or run.after is None:
        return ""
    remedy = "Resume that run, or remove the dependency."
    try:
        other = store.get(run.after)
    except RunError:
        return f"It waits for the run {run.after}, which was deleted. {remedy}"
    if other.state is RunState.COMPLETED:
        return ""
    if other.state in PENDING:
        return f"It waits until {other.name} ({other.id}) is completed."
    return f"It waits for {other.name} ({other.id}), which is {other.state}. {remedy}"


def idle(store: Store) -> bool:
    """Whether no run is active, and no queued run will start by itself."""
    return not any(
        run.state in ACTIVE or not waiting_reason(store, run) for run in store.list(states=PENDING)
    )


def resume(store: Store, run_id: str) -> Run:
    """Queue a stopped, failed or lost run again.

    Raises:
        RunError: There is no such run, or it is in another state.
    """
    reconcile(store)
    run = store.get(run_id)
    if run.state not in RESUMABLE:
        raise RunError(f"The run {run.id} is {run.state}; there is nothing to resume.")
    return store.transition(run.id, RunState.QUEUED, seen=run)
