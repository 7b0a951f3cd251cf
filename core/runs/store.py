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
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from core.errors import CoreError, RunError, unknown_name
from core.runs import processes, schema
from core.runs.run import (
    ACTIVE,
    REMEDIES,
    TRANSITIONS,
    UNTROUBLED,
    MetricRow,
    Run,
    RunState,
    Value,
)
from core.spec import RunSpec
from core.workspace import Workspace

__all__ = ["MetricRow", "Run", "RunState", "Store", "open_store"]

LOCKED_SECONDS = 60.0
_MOST_NAMED = 12

_runs, _metrics, _store = schema.runs, schema.metrics, schema.store
_RUN_COLUMNS = [_runs.c[field.name] for field in fields(Run)]
_CHANGEABLE = {field.name for field in fields(Run)} - {
    "id", "spec", "fingerprint", "state", "created_at"
}  # fmt: skip


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
        self.workspace = workspace
        self._engine = engine
        self._writer = engine.execution_options(writes=True)
        weakref.finalize(self, engine.dispose)

    def folder(self, run_id: str) -> Path:
        """The folder of a run."""
        return self.workspace.run(run_id)

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
            values |= processes.own().columns() | {"heartbeat_at": time.time()}
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
        with self._write() as connection:
            self._change(connection, run_id, changed)

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
                    REMEDIES.get(run.state, ""),
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
        queued = _select().where(_runs.c.state == RunState.QUEUED).order_by(_runs.c.place).limit(1)
        busy = (
            sa.select(sa.func.count())
            .select_from(_runs)
            .where(_runs.c.state.in_([str(state) for state in ACTIVE]))
            .where(sa.or_(_runs.c.host.is_(None), _runs.c.host == own.host))
        )

        def first(connection: sa.Connection) -> sa.Row[Any] | None:
            if connection.execute(busy).scalar_one() >= slots:
                return None
            return connection.execute(queued).first()

        with self._read() as connection:  # most of the time there is nothing to do
            if first(connection) is None:
                return None
        with self._write(quiet=True) as connection:
            row = first(connection)
            if row is None:
                return None
            values = {"state": RunState.STARTING, "phase": "starting", **own.columns()}
            connection.execute(_runs.update().where(_runs.c.id == row.id).values(**values))
            self._tell(connection)
            return self._read_run(connection, row.id)

    def hand_over(self, run: Run, child: processes.Identity) -> None:
        """Give a claimed run to its process, unless that has already taken it."""
        mine = sa.and_(_runs.c.id == run.id, _runs.c.process == run.process)
        waiting = _runs.c.state.in_([str(RunState.STARTING), str(RunState.STOPPING)])
        with self._write() as connection:
            values = {**child.columns(), "heartbeat_at": time.time()}
            connection.execute(_runs.update().where(mine, waiting).values(**values))

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
            RunError: There is no such run, it is active, or its folder cannot be removed.
        """
        with self._write() as connection:
            run = self._read_run(connection, run_id)
            if run.state in ACTIVE:
                raise RunError(
                    f"The run {run.id} is {run.state}, so that it cannot be deleted.",
                    "Stop it first.",
                )
            connection.execute(_runs.delete().where(_runs.c.id == run.id))
        folder = self.workspace.run(run.id)
        try:
            if folder.exists():
                shutil.rmtree(folder)
        except OSError as error:
            raise RunError(
                f"The run {run.id} was deleted, but its folder {folder} cannot be removed "
                f"({error.strerror or error}).",
                "Remove the folder by hand.",
            ) from error

    # --- metrics ---------------------------------------------------------------------------------

    def log_metrics(self, run_id: str, values: Sequence[Value], **changed: Any) -> None:
        """Add values to a run's curves, all or none.

        Args:
            run_id: The run.
            values: Name, value, epoch, step of each.
            **changed: Fields of the run that change with them, as in ``update``.

        Raises:
            RunError: There is no such run.
        """
        with self._write() as connection:
            number = self._number(connection, run_id)
            if changed:
                self._change(connection, run_id, changed)
            if values:
                last = sa.select(sa.func.max(_metrics.c.row)).where(_metrics.c.run == number)
                highest = connection.execute(last).scalar()
                first = 0 if highest is None else highest + 1
                rows = [_metric(number, row, value) for row, value in enumerate(values, first)]
                connection.execute(_metrics.insert(), rows)

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
            raise schema.explained(error, self.workspace.store) from error

    @contextmanager
    def _write(self, quiet: bool = False) -> Iterator[sa.Connection]:
        try:
            with self._writer.connect() as connection, _begun(connection):
                yield connection
                if not quiet:
                    self._tell(connection)
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise schema.explained(error, self.workspace.store) from error

    def _tell(self, connection: sa.Connection) -> None:
        connection.execute(_store.update().values(changes=_store.c.changes + 1))

    def _change(self, connection: sa.Connection, run_id: str, changed: dict[str, Any]) -> None:
        wrong = set(changed) - _CHANGEABLE
        if wrong:
            raise ValueError(f"These fields of a run cannot be changed: {sorted(wrong)}")
        statement = _runs.update().where(_runs.c.id == run_id).values(**changed)
        if connection.execute(statement).rowcount == 0:
            raise self._unknown(connection, run_id)

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
                gone: dict[str, Any] = dict.fromkeys(
                    ("started_at", "finished_at", "seconds_left", "phase", "scores", "host", "pid",
                     "process", "heartbeat_at")
                )  # fmt: skip
                if run.state is not RunState.STARTING:  # that one keeps its place
                    gone["place"] = self._next_place(connection)
                return {**gone, **UNTROUBLED, "stop_requested": False}
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
        close = [row.id for row in rows if name.lower() in row.name.lower()]
        known = dict.fromkeys([*close, *(row.id for row in rows)])
        return unknown_name("run", name, list(known)[:_MOST_NAMED], error=RunError)


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


def _metric(number: int, row: int, value: Value) -> dict[str, Any]:
    name, level, epoch, step = value
    known = None if math.isnan(level) else float(level)
    return {
        "run": number, "row": row, "name": name, "value": known, "epoch": float(epoch),
        "step": int(step),
    }  # fmt: skip


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
