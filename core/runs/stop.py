"""Stop runs: a request in the store, then SIGTERM, then the process group is killed."""

from __future__ import annotations

import time
from collections.abc import Iterable

from core.runs import processes
from core.runs.run import Run, RunState

TERMINATE_AFTER = 2.0
"""Seconds after which a run that has not reacted to the request is sent SIGTERM."""
KILL_AFTER = 3.5
"""Seconds after which its process and all descendants are killed; checkpoints stay complete."""


class StopEnforcer:
    """Enforces the stop of runs of this machine, timed by a monotonic clock."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str | None], float] = {}
        self._terminated: set[tuple[str, str | None]] = set()

    def enforce(self, runs: Iterable[Run]) -> None:
        """Check the active runs once, and end those that take too long to stop.

        Two kinds of process only get SIGTERM and are never killed: a user's own, such as a
        notebook, and one that also executes other runs, which must continue.
        """
        now, before = time.monotonic(), self._since
        self._since = {}
        runs = list(runs)
        continuing = {run.process for run in runs if run.state is not RunState.STOPPING}
        for run in runs:
            if run.state is not RunState.STOPPING or run.host != processes.host():
                continue
            if run.pid is None or run.heartbeat_at is None:  # it has no process yet
                continue
            key = run.id, run.process
            waited = now - self._since.setdefault(key, before.get(key, now))
            if waited > KILL_AFTER and run.slot is not None and run.process not in continuing:
                processes.kill(run.pid, run.process)
            elif waited > TERMINATE_AFTER and key not in self._terminated:
                self._terminated.add(key)
                processes.terminate(run.pid, run.process)
        self._terminated &= set(self._since)
