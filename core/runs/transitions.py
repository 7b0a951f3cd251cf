"""State transitions of a run: which ones are allowed, and which fields change with them."""

from __future__ import annotations

import time
from typing import Any

from core.runs.run import Run, RunState

_S = RunState
TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    _S.QUEUED: frozenset({_S.STARTING, _S.STOPPED}),
    _S.STARTING: frozenset({_S.QUEUED, _S.RUNNING, _S.STOPPING, _S.STOPPED, _S.FAILED, _S.LOST}),
    _S.RUNNING: frozenset({_S.STOPPING, _S.COMPLETED, _S.STOPPED, _S.FAILED, _S.LOST}),
    _S.STOPPING: frozenset({_S.COMPLETED, _S.STOPPED, _S.FAILED, _S.LOST}),
    _S.COMPLETED: frozenset(),
    _S.STOPPED: frozenset({_S.QUEUED}),
    _S.FAILED: frozenset({_S.QUEUED}),
    _S.LOST: frozenset({_S.QUEUED}),
}
"""Allowed next states of each state."""

REMEDIES = {
    RunState.COMPLETED: "Start a new run with the same settings instead.",
    RunState.QUEUED: "It starts as soon as a slot is free.",
    RunState.RUNNING: "Stop it first.",
    RunState.STARTING: "Stop it first.",
    RunState.STOPPING: "Wait until it has stopped.",
    RunState.STOPPED: "Resume it first.",
    RunState.FAILED: "Resume it first.",
    RunState.LOST: "Resume it first.",
}
"""Remedy for a run whose present state does not allow the requested transition."""

NO_FAILURE: dict[str, Any] = dict.fromkeys(
    ("failure_kind", "failure_reason", "failure_remedy", "traceback")
)
"""Fields of a run that has not failed."""

_RESET_WHEN_QUEUED = (
    "started_at", "finished_at", "seconds_left", "phase", "scores", "host", "pid", "process",
    "heartbeat_at", "exit_code", "slot",
)  # fmt: skip


def changed_fields(run: Run, state: RunState, next_place: int) -> dict[str, Any]:
    """Fields that change whenever a run enters a state; ``next_place`` is the end of the queue."""
    now = time.time()
    match state:
        case RunState.QUEUED:
            fields: dict[str, Any] = dict.fromkeys(_RESET_WHEN_QUEUED)
            if run.state is not RunState.STARTING:  # a run that was only claimed keeps its place
                fields |= {"place": next_place, "group": None}
            return {**fields, **NO_FAILURE, "stop_requested": False}
        case RunState.STARTING:
            return {"phase": "starting"}
        case RunState.RUNNING:
            return {"started_at": now, "heartbeat_at": now, "attempts": run.attempts + 1}
        case RunState.STOPPING:
            return {"stop_requested": True}
        case _:
            ended = {"finished_at": now, "seconds_left": None, "phase": None}
            if run.started_at is not None:
                end = now
                if state is RunState.LOST:
                    end = run.heartbeat_at or run.started_at
                ended["seconds"] = (run.seconds or 0.0) + max(0.0, end - run.started_at)
            return ended
