"""A run as the store returns it, its states, and the values of its curves."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from core.config.run import RunSpec

MetricValue = tuple[str, float, float, int]
"""A metric to record: name, value, epoch, step."""


class RunState(StrEnum):
    """The state of a run."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"


ACTIVE = frozenset({RunState.STARTING, RunState.RUNNING, RunState.STOPPING})
"""States in which the run has a process, or is about to get one."""


@dataclass(frozen=True)
class Run:
    """One run of the store.

    Attributes:
        id: Eight hexadecimal digits.
        name: Name shown to the user; need not be unique.
        spec: Its specification.
        fingerprint: Hash of the specification; equal for equal runs.
        state: Its state.
        created_at: Time of creation, in seconds since 1970, as all times here.
        started_at: Start of the present or last attempt.
        finished_at: End of that attempt.
        progress: From 0 to 1.
        phase: What the run is doing, as text.
        seconds_left: Estimated seconds until it ends; None if unknown.
        seconds: Wall time of all attempts that have ended.
        best_auroc: Best mean validation AUROC so far.
        last_auroc: Mean validation AUROC of the last epoch.
        trainable: Number of trainable parameters.
        total: Number of parameters of the model.
        device: Device that it trains on.
        scores: By split: ``auroc``, ``per_finding``, ``studies``.
        environment: Versions, machine and command line of the last attempt.
        failure_kind: Category of the failure: ``data``, ``out of memory``, ``killed``, ….
        failure_reason: Cause of the failure, as a sentence.
        failure_remedy: What the user can do about it.
        traceback: Python traceback of the failure.
        attempts: Number of times it was started.
        host: Machine of its process.
        pid: Id of its process.
        process: Distinguishes its process from a later one with the same id.
        heartbeat_at: Time of the last heartbeat of its process.
        stop_requested: Whether the user asked it to stop.
        priority: Runs with a higher priority start first.
        place: Among runs of one priority, the one with the lowest place starts first.
        after: Id of the run that must be completed before this one starts.
        slot: Device assigned by the scheduler: ``cpu``, ``cuda:0``, ….
        exit_code: Exit code of its last process; negative for a signal, None if unknown.
        log: Path of its log, on its machine.
        rewinds: Number of times its last metrics were deleted; readers then read all of them again.
        group: Key shared by the runs that start together, in one process.
        folder: Its weights, predictions and log, in the workspace.
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
    group: str | None = None
    folder: Path = Path()

    @property
    def queue_key(self) -> tuple[int, int]:
        """Sort key of queued runs: the order in which they start."""
        return -self.priority, self.place

    @property
    def test_auroc(self) -> float | None:
        """Mean test AUROC, 0 to 1; None if the run has none."""
        value = ((self.scores or {}).get("test") or {}).get("auroc")
        return None if value is None or math.isnan(value) else float(value)

    @property
    def seconds_alone(self) -> float | None:
        """``seconds``; None if other runs shared the process, so that the time is not its own."""
        return None if (self.environment or {}).get("together") else self.seconds


COLUMNS = tuple(field.name for field in fields(Run) if field.name != "folder")
"""Fields of a run that are columns of the store."""


@dataclass(frozen=True)
class MetricRow:
    """One value of a curve.

    Attributes:
        name: Such as ``train/loss`` or ``val/auroc/Effusion``.
        value: NaN where it was not a number.
        epoch: Epochs done, including the fraction of the present one.
        step: Optimizer steps done.
        row: Index among the metrics of the run, from 0.
    """

    name: str
    value: float
    epoch: float
    step: int
    row: int
