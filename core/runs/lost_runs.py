"""Find runs whose process has ended without recording it, and record what happened to them."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from core.errors import RunError
from core.runs import processes
from core.runs.run import ACTIVE, Run, RunState
from core.runs.store import LOG, Store

RESUME = "Resume it: it continues from its last checkpoint."
"""Remedy for a lost run."""


def reconcile(store: Store) -> list[Run]:
    """Find active runs of this machine whose process has ended, and record their end.

    Returns:
        These runs, in their new state.
    """
    processes.reap()
    ended = []
    for run in store.list(states=ACTIVE):
        if run.host not in (None, processes.host()) or processes.alive(run.pid, run.process):
            continue
        processes.reap()  # the process may have ended since the first call
        state, reason, remedy = _end_of(run, store.workspace.run(run.id) / LOG)
        ended += record_end(store, run, state, reason, remedy)
    return ended


def record_end(
    store: Store, run: Run, state: RunState, reason: str | None, remedy: str | None
) -> list[Run]:
    """Record the end of a run whose process is gone, unless another process has already done so.

    Returns:
        The run in its new state; empty if its state had changed.
    """
    code = processes.exit_code(run.pid)
    fields: dict[str, Any] = {} if state is RunState.QUEUED else {"exit_code": code}
    if reason is not None:
        exited = state is RunState.FAILED or (code is not None and code >= 0)
        kind = "other" if exited else "killed"
        fields |= {"failure_kind": kind, "failure_reason": reason, "failure_remedy": remedy}
    try:
        return [store.transition(run.id, state, seen=run, **fields)]
    except RunError:
        return []


def _end_of(run: Run, log: Path) -> tuple[RunState, str | None, str | None]:
    """State, reason and remedy of a run whose process ended without recording its end."""
    if run.stop_requested:
        return RunState.STOPPED, None, None
    if run.state is RunState.STARTING and run.heartbeat_at is None:
        return RunState.QUEUED, None, None  # the process that claimed it ended before starting it
    code, line = processes.exit_code(run.pid), processes.last_line(log)
    last = f" The last line of its log: {line}" if line else ""
    if code is not None and code < 0:
        how = f"was killed ({_signal_name(-code)})"
        if -code == signal.SIGKILL:
            how += ", perhaps because the machine ran out of memory"
        return RunState.LOST, f"The run's process {how}.", RESUME
    if run.state is RunState.STARTING:
        reason = f"The run's process ended before the run began.{last}"
        return RunState.FAILED, reason, "Read its log, fix the cause and resume it."
    if code is not None:
        return RunState.LOST, f"The run's process ended with exit code {code}.{last}", RESUME
    reason = "The run's process has ended: it was killed, or the machine was switched off."
    return RunState.LOST, reason, RESUME


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
