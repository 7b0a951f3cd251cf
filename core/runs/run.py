"""One run as the store knows it, the states it goes through, and the values of its curves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from core.config.run import RunSpec

Value = tuple[str, float, float, int]
"""A metric to record: name, value, epoch, step."""


class RunState(StrEnum):
    """What a run is doing."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"


ACTIVE = frozenset({RunState.STARTING, RunState.RUNNING, RunState.STOPPING})
"""States in which a process works, or is about to."""

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
"""Where a run can go from each state; everything else is refused."""


@dataclass(frozen=True)
class Run:
    """One run as the store knows it.

    Attributes:
        id: Eight hexadecimal digits.
        name: For people; need not be unique.
        spec: What it does.
        fingerprint: Of the specification; equal for equal runs.
        state: What it is doing.
        created_at: When it was made, in seconds since 1970, as all times here.
        started_at: When the present or last attempt began.
        finished_at: When that ended.
        progress: From 0 to 1.
        phase: What it is doing, in words.
        seconds_left: Until its end, as far as is known.
        seconds: Wall time of all attempts that have ended.
        best_auroc: Best mean validation AUROC so far.
        last_auroc: The last one.
        trainable: Parameters that train.
        total: Parameters of the model.
        device: What it computes on.
        scores: By split: ``auroc``, ``per_finding``, ``studies``.
        environment: Versions, machine and command line of the last attempt.
        failure_kind: Why it failed, in one word: ``data``, ``out of memory``, ``killed``, ….
        failure_reason: The same as a sentence.
        failure_remedy: What can be done about it.
        traceback: For whoever mends the program.
        attempts: How many times it began.
        host: Machine of its process.
        pid: Number of its process.
        process: Identity of its process, which tells it from a later one of the same number.
        heartbeat_at: When it was last heard of.
        stop_requested: Whether it was asked to stop.
        priority: Runs of a higher one start first.
        place: Among runs of one priority, the lowest starts first.
        after: Id of the run that has to be completed before this one starts.
        slot: The device it was given: ``cpu``, ``cuda:0``, ….
        exit_code: How its last process ended; negative for a signal, None if that is not known.
        log: Path of its log, on its machine.
        rewinds: How many times its later metrics were forgotten; readers then begin anew.
        party: What it has in common with the runs that it starts with, in one process.
    """

    id: str
    name: str
    spec: RunSpec
    fingerprint: str
    state: RunState
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    progress: float | None = None
    phase: str | None = None
    seconds_left: float | None = None
    seconds: float | None = None
    best_auroc: float | None = None
    last_auroc: float | None = None
    trainable: int | None = None
    total: int | None = None
    device: str | None = None
    scores: dict[str, Any] | None = None
    environment: dict[str, Any] | None = None
    failure_kind: str | None = None
    failure_reason: str | None = None
    failure_remedy: str | None = None
    traceback: str | None = None
    attempts: int = 0
    host: str | None = None
    pid: int | None = None
    process: str | None = None
    heartbeat_at: float | None = None
    stop_requested: bool = False
    priority: int = 0
    place: int = 0
    after: str | None = None
    slot: str | None = None
    exit_code: int | None = None
    log: str | None = None
    rewinds: int = 0
    party: str | None = None

    @property
    def turn(self) -> tuple[int, int]:
        """Sorts queued runs into the order in which they start."""
        return -self.priority, self.place

    @property
    def seconds_alone(self) -> float | None:
        """``seconds``; None if other runs shared the process, so that they say little of one."""
        return None if (self.environment or {}).get("together") else self.seconds


@dataclass(frozen=True)
class MetricRow:
    """One value of a curve.

    Attributes:
        name: Such as ``train/loss`` or ``val/auroc/Effusion``.
        value: NaN where it was not a number.
        epoch: Epochs done, with their fraction.
        step: Optimizer steps done.
        row: Its place among the run's metrics, from 0.
    """

    name: str
    value: float
    epoch: float
    step: int
    row: int


UNTROUBLED: dict[str, Any] = dict.fromkeys(
    ("failure_kind", "failure_reason", "failure_remedy", "traceback")
)
"""What a run looks like that has not failed."""

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
"""What to do about a run in a state that does not allow what was asked."""
