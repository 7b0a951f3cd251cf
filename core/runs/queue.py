"""The queue of runs, which lives in the store, and the scheduler that starts what waits in it."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

from core.config.run import RunSpec
from core.errors import RunError
from core.runs import processes
from core.runs.run import ACTIVE, Run, RunState
from core.runs.stop import KILL_AFTER, Stopping
from core.runs.store import LOG, Store

PENDING = (RunState.QUEUED, RunState.STARTING, RunState.RUNNING, RunState.STOPPING)
"""States that are not the end of a run."""

RESUMABLE = (RunState.STOPPED, RunState.FAILED, RunState.LOST)
"""States from which a run can go on."""

MOST_ATTEMPTS = 5
"""Attempts after which a run that is lost again and again is no more resumed by itself."""

SILENT_SECONDS = 120.0
RESUME = "Resume it: it goes on from its last checkpoint."


def submit(
    store: Store,
    spec: RunSpec,
    name: str | None = None,
    *,
    priority: int = 0,
    after: str | None = None,
) -> Run:
    """Put a run into the queue.

    Args:
        store: The store.
        spec: What it does.
        name: For people; by default the specification's title.
        priority: Runs of a higher one start first.
        after: Id of a run that has to be completed before this one starts.

    Raises:
        RunError: There is no such run to wait for.
    """
    return store.create(spec, name, priority=priority, after=after)


def claim_here(store: Store, spec: RunSpec, name: str | None = None) -> Run:
    """Make a run that this process carries out itself, past the queue."""
    return store.create(spec, name, state=RunState.STARTING)


def stop(store: Store, run_id: str) -> Run:
    """Stop a run: at once if it waits, else as soon as its process has written a checkpoint.

    Raises:
        RunError: There is no such run, or it has ended.
    """
    reconcile(store)
    return store.request_stop(run_id)


def stop_now(store: Store, run_id: str) -> Run:
    """Stop a run and wait for its end, which comes within five seconds on this machine.

    Raises:
        RunError: There is no such run, or it has ended.
    """
    run = stop(store, run_id)
    stopping, until = Stopping(), time.monotonic() + KILL_AFTER + 3.0
    while run.state is RunState.STOPPING and time.monotonic() < until:
        stopping.enforce([run])
        time.sleep(0.1)
        reconcile(store)
        run = store.get(run.id)
    return run


def waits(store: Store, run: Run) -> str:
    """What a queued run waits for beside a slot, as a sentence; empty if for nothing."""
    if run.state is not RunState.QUEUED or run.after is None:
        return ""
    remedy = "Resume that one, or let this one wait for nothing."
    try:
        other = store.get(run.after)
    except RunError:
        return f"It waits for the run {run.after}, which was deleted. {remedy}"
    if other.state is RunState.COMPLETED:
        return ""
    if other.state in PENDING:
        return f"It waits for {other.name} ({other.id}) to be completed."
    return f"It waits for {other.name} ({other.id}), which is {other.state}. {remedy}"


def idle(store: Store) -> bool:
    """Whether nothing works, and nothing that is queued will start by itself."""
    pending = store.list(states=PENDING)
    coming = {run.id for run in pending if run.state in ACTIVE or not waits(store, run)}
    return not coming


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


def reconcile(store: Store) -> list[Run]:
    """Find the active runs of this machine whose process is gone, and say so in the store.

    Returns:
        The runs that were found dead, in their new state.
    """
    processes.reap()
    found = []
    for run in store.list(states=ACTIVE):
        if run.host not in (None, processes.host()) or processes.alive(run.pid, run.process):
            continue
        processes.reap()  # it may have ended since the first look, and its exit code is wanted
        state, reason, remedy = _end(run, store.folder(run.id) / LOG)
        found += settle(store, run, state, reason, remedy)
    return found


def settle(
    store: Store, run: Run, state: RunState, reason: str | None, remedy: str | None
) -> list[Run]:
    """Say in the store what became of a run whose process is gone, unless another was quicker.

    Returns:
        The run in its new state, if it is in it.
    """
    code = processes.exit_code(run.pid)
    fields: dict[str, Any] = {} if state is RunState.QUEUED else {"exit_code": code}
    if reason is not None:
        ended = state is RunState.FAILED or (code is not None and code >= 0)
        kind = "other" if ended else "killed"
        fields |= {"failure_kind": kind, "failure_reason": reason, "failure_remedy": remedy}
    try:
        return [store.transition(run.id, state, seen=run, **fields)]
    except RunError:
        return []  # It ended properly, or another process was quicker to see it.


def _end(run: Run, log: Path) -> tuple[RunState, str | None, str | None]:
    """State, reason and remedy of a run whose process is gone without a word."""
    if run.stop_requested:
        return RunState.STOPPED, None, None
    if run.state is RunState.STARTING and run.heartbeat_at is None:
        return RunState.QUEUED, None, None  # Who claimed it was gone before it had a process.
    code, said = processes.exit_code(run.pid), processes.last_line(log)
    last = f" The last line of its log: {said}" if said else ""
    if code is not None and code < 0:
        how = f"was killed ({_signal(-code)})"
        if -code == signal.SIGKILL:
            how += ", perhaps because the machine ran out of memory"
        return RunState.LOST, f"The run's process {how}.", RESUME
    if run.state is RunState.STARTING:
        reason = f"The run's process ended before it began to work.{last}"
        return RunState.FAILED, reason, "See its log, mend the cause and resume it."
    if code is not None:
        return RunState.LOST, f"The run's process ended with code {code}.{last}", RESUME
    return RunState.LOST, "The run's process is gone: killed, or the machine went down.", RESUME


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
