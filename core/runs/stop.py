"""Ends a run that was asked to stop: the store says so, then a signal, then its group is killed."""

from __future__ import annotations

import time
from collections.abc import Iterable

from core.runs import processes
from core.runs.run import Run, RunState

ASK_AFTER = 2.0
"""Seconds after which a run that has not heeded the store is sent SIGTERM."""
KILL_AFTER = 3.5
"""Seconds after which its process and all that it started are killed; checkpoints stay whole."""


class Stopping:
    """Runs of this machine that are stopping, and since when, on a clock that nobody sets."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str | None], float] = {}
        self._asked: set[tuple[str, str | None]] = set()

    def enforce(self, runs: Iterable[Run]) -> None:
        """Look once at the active runs, and end those that take too long to stop.

        A run that somebody's own process carries out, such as a notebook, is only asked; so is one
        whose process carries out others, too, that shall go on.
        """
        now, before = time.monotonic(), self._since
        self._since = {}
        runs = list(runs)
        at_work = {run.process for run in runs if run.state is not RunState.STOPPING}
        for run in runs:
            if run.state is not RunState.STOPPING or run.host != processes.host():
                continue
            if run.pid is None or run.heartbeat_at is None:  # it has no process yet
                continue
            key = run.id, run.process
            waited = now - self._since.setdefault(key, before.get(key, now))
            if waited > KILL_AFTER and run.slot is not None and run.process not in at_work:
                processes.kill(run.pid, run.process)
            elif waited > ASK_AFTER and key not in self._asked:
                self._asked.add(key)
                processes.ask(run.pid, run.process)
        self._asked &= set(self._since)
