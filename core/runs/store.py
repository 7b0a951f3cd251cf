"""What is known about every run: its settings, state, curves and scores, in one SQL store.

The app and the command line make the store; a run's process only opens it. Each change is one
short transaction that also raises ``version()``, so that a page knows when to read again.
"""

from __future__ import annotations

import builtins
import math
import secrets
import shutil
import sqlite3
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from core.errors import CoreError, RunError, unknown_name
from core.runs import processes, schema
from core.spec import RunSpec
from core.workspace import Workspace

Value = tuple[str, float, float, int]
"""A metric to record: name, value, epoch, step."""

LOCKED_SECONDS = 60.0
_MOST_NAMED = 12


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
    _S.STARTING: frozenset({_S.RUNNING, _S.STOPPING, _S.STOPPED, _S.FAILED, _S.LOST}),
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


_runs, _metrics, _store = schema.runs, schema.metrics, schema.store
_RUN_COLUMNS = [_runs.c[field.name] for field in fields(Run)]
_FIXED = {"id", "spec", "fingerprint", "state", "created_at"}
UNTROUBLED: dict[str, Any] = dict.fromkeys(
    ("failure_kind", "failure_reason", "failure_remedy", "traceback")
)


def open_store(workspace: Workspace, create: bool) -> Store:
    """Open a workspace's store.

    Args:
        workspace: The workspace.
        create: Make the store if there is none; a run's process never does.

    Raises:
        StoreError: There is none, or it is damaged or of another version; it is left as it is.
    """
    return Store(workspace, schema.open_engine(workspace.store, create=create))


class Store:
    """The store of one workspace; may be used by many threads and processes at once.

    Args:
        workspace: The workspace.
        engine: Its data base, opened by ``open_store``.

    Raises:
        StoreError: By each method, where the data base cannot be read or written.
    """

    def __init__(self, workspace: Workspace, engine: sa.Engine) -> None:
        self._workspace = workspace
        self._engine = engine
        self._writer = engine.execution_options(writes=True)
        weakref.finalize(self, engine.dispose)

    def folder(self, run_id: str) -> Path:
        """The folder of a run."""
        return self._workspace.run(run_id)

    def close(self) -> None:
        """Close the file; the store opens it again when it is used."""
        self._engine.dispose()

    # --- runs ------------------------------------------------------------------------------------

    def create(
        self, spec: RunSpec, name: str | None = None, state: RunState = RunState.QUEUED
    ) -> Run:
        """Add a run.

        Args:
            spec: What it does.
            name: For people; by default the specification's title.
            state: ``STARTING`` for a run that this process carries out itself, else ``QUEUED``.
        """
        run_id = secrets.token_hex(4)
        values: dict[str, Any] = {
            "id": run_id,
            "name": " ".join((name or "").split()) or spec.title(),
            "spec": spec.to_json(),
            "fingerprint": spec.fingerprint(),
            "state": state,
            "created_at": time.time(),
            "attempts": 0,
            "stop_requested": False,
        }
        if state is RunState.STARTING:
            values |= processes.own().columns()
        with self._write() as connection:
            connection.execute(_runs.insert().values(**values, place=self._next_place(connection)))
            return self._read_run(connection, run_id)

    def get(self, name: str) -> Run:
        """The run of an id, a name, or the start of an id.

        Raises:
            RunError: There is none, or there are several.
        """
        name = name.strip()
        with self._read() as connection:
            for found in (_runs.c.id == name, _runs.c.name == name, _begins(_runs.c.id, name)):
                rows = connection.execute(_select().where(found).limit(_MOST_NAMED)).all()
                if len(rows) == 1:
                    return _run(rows[0])
                if rows:
                    listed = ", ".join(row.id for row in rows)
                    raise RunError(f"Several runs are called “{name}”.", f"Give an id: {listed}.")
            raise self._unknown(connection, name)

    def list(self, states: Iterable[RunState] | None = None, limit: int | None = None) -> list[Run]:
        """Runs, the one made last first.

        Args:
            states: Only runs in one of these.
            limit: At most so many.
        """
        query = _select().order_by(_runs.c.number.desc()).limit(limit)
        if states is not None:
            query = query.where(_runs.c.state.in_([str(state) for state in states]))
        with self._read() as connection:
            return [_run(row) for row in connection.execute(query)]

    def update(self, run_id: str, **changed: Any) -> None:
        """Change fields of a run that say nothing about its state.

        Raises:
            RunError: There is no such run.
        """
        wrong = set(changed) & _FIXED | set(changed) - {field.name for field in fields(Run)}
        if wrong:
            raise ValueError(f"These fields of a run cannot be updated: {sorted(wrong)}")
        with self._write() as connection:
            statement = _runs.update().where(_runs.c.id == run_id).values(**changed)
            if connection.execute(statement).rowcount == 0:
                raise self._unknown(connection, run_id)

    def transition(
        self, run_id: str, state: RunState, *, seen: Run | None = None, **changed: Any
    ) -> Run:
        """Take a run into another state, which has to be possible from its present one.

        Args:
            run_id: The run.
            state: Where it goes.
            seen: Refuse if the run is no longer in this state, or in another process.
            **changed: Fields that change with it.

        Raises:
            RunError: There is no such run, or it cannot go there.
        """
        with self._write() as connection:
            run = self._read_run(connection, run_id)
            moved = seen is not None and (run.state, run.process) != (seen.state, seen.process)
            if moved or state not in TRANSITIONS[run.state]:
                raise RunError(
                    f"The run {run.id} is {run.state}, so that it cannot become {state}.",
                    _REMEDIES.get(run.state, ""),
                )
            values = {"state": state, **self._accompanying(connection, run, state), **changed}
            connection.execute(_runs.update().where(_runs.c.id == run.id).values(**values))
            return self._read_run(connection, run.id)

    def claim_next(self, slots: int) -> Run | None:
        """Take the first queued run, if fewer than ``slots`` are active on this machine.

        Two processes never take the same run. It is then starting, and belongs to this process
        until its own has a number.
        """
        own = processes.own()
        active = _runs.c.state.in_([str(state) for state in ACTIVE])
        here = sa.or_(_runs.c.host.is_(None), _runs.c.host == own.host)
        queued = _select().where(_runs.c.state == RunState.QUEUED).order_by(_runs.c.place).limit(1)
        with self._read() as connection:  # most of the time there is nothing to do
            if connection.execute(queued).first() is None:
                return None
        with self._write() as connection:
            count = sa.select(sa.func.count()).select_from(_runs).where(active, here)
            row = connection.execute(queued).first()
            if row is None or connection.execute(count).scalar_one() >= slots:
                return None
            values = {"state": RunState.STARTING, "phase": "starting", **own.columns()}
            connection.execute(_runs.update().where(_runs.c.id == row.id).values(**values))
            return self._read_run(connection, row.id)

    def hand_over(self, run: Run, child: processes.Identity) -> None:
        """Give a claimed run to its process, unless that has already taken it."""
        mine = sa.and_(_runs.c.id == run.id, _runs.c.process == run.process)
        waiting = _runs.c.state.in_([str(RunState.STARTING), str(RunState.STOPPING)])
        with self._write() as connection:
            connection.execute(_runs.update().where(mine, waiting).values(**child.columns()))

    def request_stop(self, run_id: str) -> Run:
        """Ask a run to stop: a queued one is stopped at once, another by its process.

        Raises:
            RunError: There is no such run, or it has ended.
        """
        with self._write() as connection:
            run = self._read_run(connection, run_id)
            if run.state is RunState.STOPPING:
                return run
            if run.state not in (RunState.QUEUED, RunState.STARTING, RunState.RUNNING):
                raise RunError(f"The run {run.id} is {run.state}; there is nothing to stop.")
            queued = run.state is RunState.QUEUED
            state = RunState.STOPPED if queued else RunState.STOPPING
            values = {"state": state, **self._accompanying(connection, run, state)}
            connection.execute(_runs.update().where(_runs.c.id == run.id).values(**values))
            return self._read_run(connection, run.id)

    def stop_requested(self, run_id: str) -> bool:
        """Whether a run was asked to stop; also if it is no longer there."""
        query = sa.select(_runs.c.stop_requested).where(_runs.c.id == run_id)
        with self._read() as connection:
            found: bool | None = connection.execute(query).scalar()
            return found is None or found

    def heartbeat(self, run_id: str) -> None:
        """Note that a run's process lives; this alone is no reason to draw a page again."""
        with self._write(quiet=True) as connection:
            statement = _runs.update().where(_runs.c.id == run_id).values(heartbeat_at=time.time())
            connection.execute(statement)

    def delete(self, run_id: str) -> None:
        """Forget a run with its metrics, and remove its folder.

        Raises:
            RunError: There is no such run, or it is active.
            StoreError: Its folder cannot be removed.
        """
        with self._write() as connection:
            run = self._read_run(connection, run_id)
            if run.state in ACTIVE:
                raise RunError(
                    f"The run {run.id} is {run.state}, so that it cannot be deleted.",
                    "Stop it first.",
                )
            connection.execute(_runs.delete().where(_runs.c.id == run.id))
        folder = self._workspace.run(run.id)
        try:
            if folder.exists():
                shutil.rmtree(folder)
        except OSError as error:
            raise StoreFolderError.of(run.id, folder, error) from error

    # --- metrics ---------------------------------------------------------------------------------

    def log_metrics(self, run_id: str, values: Sequence[Value]) -> None:
        """Add values to a run's curves, all or none.

        Args:
            run_id: The run.
            values: Name, value, epoch, step of each.

        Raises:
            RunError: There is no such run.
        """
        if not values:
            return
        with self._write() as connection:
            number = self._number(connection, run_id)
            last = sa.select(sa.func.max(_metrics.c.row)).where(_metrics.c.run == number)
            highest = connection.execute(last).scalar()
            first = 0 if highest is None else highest + 1
            connection.execute(
                _metrics.insert(),
                [
                    {
                        "run": number,
                        "row": row,
                        "name": name,
                        "value": None if math.isnan(value) else float(value),
                        "epoch": float(epoch),
                        "step": int(step),
                    }
                    for row, (name, value, epoch, step) in enumerate(values, first)
                ],
            )

    def metrics(
        self, run_id: str, names: Iterable[str] | None = None, after: int = -1
    ) -> builtins.list[MetricRow]:
        """A run's metrics in the order in which they were recorded.

        Args:
            run_id: The run.
            names: Only these; by default all.
            after: Only rows after this one, for readers that have the earlier ones.
        """
        columns = [_metrics.c[field.name] for field in fields(MetricRow)]
        query = (
            sa.select(*columns)
            .join(_runs, _runs.c.number == _metrics.c.run)
            .where(_runs.c.id == run_id, _metrics.c.row > after)
            .order_by(_metrics.c.row)
        )
        if names is not None:
            query = query.where(_metrics.c.name.in_(list(names)))
        with self._read() as connection:
            return [
                MetricRow(name, math.nan if value is None else value, epoch, step, row)
                for name, value, epoch, step, row in connection.execute(query)
            ]

    def count_metrics(self, run_id: str) -> int:
        """How many metrics a run has."""
        query = (
            sa.select(sa.func.count())
            .select_from(_metrics)
            .join(_runs, _runs.c.number == _metrics.c.run)
            .where(_runs.c.id == run_id)
        )
        with self._read() as connection:
            return int(connection.execute(query).scalar_one())

    def truncate_metrics(self, run_id: str, kept: int) -> None:
        """Keep the first ``kept`` metrics of a run and forget the later ones.

        Raises:
            RunError: There is no such run.
        """
        with self._write() as connection:
            number = self._number(connection, run_id)
            later = sa.and_(_metrics.c.run == number, _metrics.c.row >= kept)
            connection.execute(_metrics.delete().where(later))

    def version(self) -> int:
        """A number that rises with each change by any process; cheap enough to ask often."""
        with self._read() as connection:
            return int(connection.execute(sa.select(_store.c.changes)).scalar_one())

    # --- within a transaction --------------------------------------------------------------------

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection, connection.begin():
                yield connection
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise schema.explained(error, self._workspace.store) from error

    @contextmanager
    def _write(self, quiet: bool = False) -> Iterator[sa.Connection]:
        try:
            with self._writer.connect() as connection, _begun(connection):
                yield connection
                if not quiet:
                    connection.execute(_store.update().values(changes=_store.c.changes + 1))
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise schema.explained(error, self._workspace.store) from error

    def _read_run(self, connection: sa.Connection, run_id: str) -> Run:
        row = connection.execute(_select().where(_runs.c.id == run_id)).first()
        if row is None:
            raise self._unknown(connection, run_id)
        return _run(row)

    def _number(self, connection: sa.Connection, run_id: str) -> int:
        query = sa.select(_runs.c.number).where(_runs.c.id == run_id)
        number: int | None = connection.execute(query).scalar()
        if number is None:
            raise self._unknown(connection, run_id)
        return number

    def _next_place(self, connection: sa.Connection) -> int:
        highest = connection.execute(sa.select(sa.func.max(_runs.c.place))).scalar()
        return (highest or 0) + 1

    def _accompanying(self, connection: sa.Connection, run: Run, state: RunState) -> dict[str, Any]:
        """Fields that change whenever a run enters a state."""
        now = time.time()
        match state:
            case RunState.QUEUED:
                gone = dict.fromkeys(
                    ("started_at", "finished_at", "seconds_left", "phase", "scores", "host", "pid",
                     "process", "heartbeat_at")
                )  # fmt: skip
                place = self._next_place(connection)
                return {**gone, **UNTROUBLED, "stop_requested": False, "place": place}
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

    def _unknown(self, connection: sa.Connection, name: str) -> CoreError:
        query = sa.select(_runs.c.id, _runs.c.name).order_by(_runs.c.number.desc()).limit(200)
        rows = connection.execute(query).all()
        if not rows:
            return RunError(f"Unknown run “{name}”.", "There are no runs in this workspace yet.")
        close = [row.id for row in rows if _near(name, row.id, row.name)]
        return unknown_name(
            "run", name, (close + [row.id for row in rows])[:_MOST_NAMED], error=RunError
        )


class StoreFolderError(RunError):
    """A run was forgotten, but its folder could not be removed."""

    @classmethod
    def of(cls, run_id: str, folder: Any, error: OSError) -> StoreFolderError:
        """The error for a folder."""
        return cls(
            f"The run {run_id} was deleted, but its folder {folder} cannot be removed "
            f"({error.strerror or error}).",
            "Remove the folder by hand.",
        )


_REMEDIES = {
    RunState.COMPLETED: "Start a new run with the same settings instead.",
    RunState.QUEUED: "It starts as soon as a slot is free.",
    RunState.RUNNING: "Stop it first.",
    RunState.STARTING: "Stop it first.",
    RunState.STOPPING: "Wait until it has stopped.",
    RunState.STOPPED: "Resume it first.",
    RunState.FAILED: "Resume it first.",
    RunState.LOST: "Resume it first.",
}


@contextmanager
def _begun(connection: sa.Connection) -> Iterator[None]:
    """A transaction that waits its turn among many writers, longer than SQLite does by itself."""
    until = time.monotonic() + LOCKED_SECONDS
    while True:
        try:
            transaction = connection.begin()
            break
        except sa.exc.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
    with transaction:
        yield


def _select() -> sa.Select[Any]:
    return sa.select(*_RUN_COLUMNS)


def _run(row: sa.Row[Any]) -> Run:
    values = dict(row._mapping)
    values["spec"] = _spec(values["spec"])
    values["state"] = RunState(values["state"])
    return Run(**values)


@lru_cache(maxsize=4096)
def _spec(text: str) -> RunSpec:
    return RunSpec.from_json(text)


def _begins(column: sa.Column[Any], start: str) -> sa.ColumnElement[bool]:
    return sa.and_(sa.literal(start) != "", column.startswith(start, autoescape=True))


def _near(name: str, run_id: str, title: str) -> bool:
    return name.lower() in title.lower() or run_id.startswith(name[:2].lower() or "-")
