"""What is known about every run: its settings, state, curves and scores, in one SQL store.

The app and the command line make the store; a run's process only opens it. Each change is one
short transaction that also raises ``version()``, so that a page knows when to read again.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from core.config.run import RunSpec
from core.errors import RunError
from core.runs import processes, queue_order, schema
from core.runs.database import Database, open_database, tell
from core.runs.metrics import MOST_NAMED, Metrics
from core.runs.run import (
    ACTIVE,
    REMEDIES,
    TRANSITIONS,
    UNTROUBLED,
    MetricRow,
    Run,
    RunState,
)
from core.workspace import Workspace

__all__ = ["LOG", "OUTLINE", "MetricRow", "Run", "RunState", "Store", "open_store"]

LOG = "log.txt"
"""A run's log, in its folder."""

OUTLINE = (
    "id", "name", "state", "progress", "seconds_left", "best_auroc", "last_auroc", "trainable",
    "total",
)  # fmt: skip
"""The fields of a run that tell how it gets on."""

_runs = schema.runs
_OUTLINE_COLUMNS = [_runs.c[name] for name in OUTLINE]
_RUN_COLUMNS = [_runs.c[field.name] for field in fields(Run)]


def open_store(workspace: Workspace, create: bool) -> Store:
    """Open a workspace's store.

    Args:
        workspace: The workspace.
        create: Make the store if there is none; a run's process never does.

    Raises:
        StoreError: There is none, or it is damaged or of a later version; it is left as it is.
    """
    return Store(workspace, open_database(workspace, create=create))


class Store(Metrics):
    """The store of one workspace; may be used by many threads and processes at once.

    Args:
        workspace: The workspace.
        database: Its data base.

    Raises:
        StoreError: By each method, where the data base cannot be read or written.
    """

    def __init__(self, workspace: Workspace, database: Database) -> None:
        super().__init__(database)
        self.workspace = workspace

    def folder(self, run_id: str) -> Path:
        """The folder of a run."""
        return self.workspace.run(run_id)

    def close(self) -> None:
        """Close the file; the store opens it again when it is used."""
        self._database.close()

    # --- runs ------------------------------------------------------------------------------------

    def create(
        self,
        spec: RunSpec,
        name: str | None = None,
        state: RunState = RunState.QUEUED,
        *,
        priority: int = 0,
        after: str | None = None,
    ) -> Run:
        """Add a run.

        Args:
            spec: What it does.
            name: For people; by default the specification's title.
            state: ``STARTING`` for a run that this process carries out itself, else ``QUEUED``.
            priority: Runs of a higher one start first.
            after: Id of a run that has to be completed before this one starts.

        Raises:
            RunError: There is no such run to wait for.
        """
        with self._database.write() as connection:
            if after is not None:
                self._number(connection, after)
            return self._insert(connection, spec, name, state, priority=priority, after=after)

    def create_group(self, specs: Sequence[RunSpec], *, priority: int = 0) -> Sequence[Run]:
        """Add runs that start at once, in one process.

        Args:
            specs: What they do.
            priority: Runs of a higher one start first.
        """
        party = secrets.token_hex(4)
        with self._database.write() as connection:  # one: else a part of them could be claimed
            return [
                self._insert(
                    connection, spec, None, RunState.QUEUED, priority=priority, party=party
                )
                for spec in specs
            ]

    def get(self, name: str) -> Run:
        """The run of an id, a name, or the start of an id.

        Raises:
            RunError: There is none, or there are several.
        """
        name = name.strip()
        with self._database.read() as connection:
            for found in (_runs.c.id == name, _runs.c.name == name, _begins(_runs.c.id, name)):
                rows = connection.execute(_select().where(found).limit(MOST_NAMED)).all()
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
        with self._database.read() as connection:
            return [_run(row) for row in connection.execute(query)]

    def outlines(self) -> Sequence[dict[str, Any]]:
        """The fields ``OUTLINE`` of all runs, the one made last first; made for asking often."""
        query = sa.select(*_OUTLINE_COLUMNS).order_by(_runs.c.number.desc())
        with self._database.read() as connection:
            return [dict(zip(OUTLINE, row, strict=True)) for row in connection.execute(query)]

    def line(self) -> Sequence[str]:
        """Ids of the queued runs, in the order in which they start."""
        with self._database.read() as connection:
            return queue_order.line(connection)

    def update(self, run_id: str, **changed: Any) -> None:
        """Change fields of a run that say nothing about its state.

        Raises:
            RunError: There is no such run.
        """
        with self._database.write() as connection:
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
        with self._database.write() as connection:
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

    def claim_next(self, slots: Mapping[str, int]) -> Run | None:
        """Take the first queued run that can start in a slot of this machine.

        Two processes never take the same run. It is then starting, and belongs to this process
        until its own has a number.

        Args:
            slots: How many runs each device of this machine takes.
        """
        own = processes.own()
        with self._database.read() as connection:  # most of the time there is nothing to do
            if queue_order.following(connection, slots, own.host) is None:
                return None
        with self._database.write(quiet=True) as connection:
            found = queue_order.following(connection, slots, own.host)
            if found is None:
                return None
            run_id, slot = found
            values = {"state": RunState.STARTING, "phase": "starting", "slot": slot}
            claimed = _runs.update().where(_runs.c.id == run_id)
            connection.execute(claimed.values(**values, **own.columns()))
            tell(connection)
            return self._read_run(connection, run_id)

    def claim_party(self, run: Run) -> Sequence[Run]:
        """Take the queued runs that start with a claimed one, into its slot."""
        if run.party is None:
            return []
        queued = sa.and_(_runs.c.party == run.party, _runs.c.state == RunState.QUEUED)
        with self._database.write() as connection:
            ids = list(connection.execute(sa.select(_runs.c.id).where(queued)).scalars())
            values = {"state": RunState.STARTING, "phase": "starting", "slot": run.slot}
            values |= processes.own().columns()
            connection.execute(_runs.update().where(_runs.c.id.in_(ids)).values(**values))
            return [self._read_run(connection, one) for one in ids]

    def move(self, run_id: str, where: str) -> None:
        """Change a queued run's place among the others.

        Raises:
            RunError: There is no such run, or it is not queued.
        """
        with self._database.write() as connection:
            self._number(connection, run_id)
            for one, changed in queue_order.moved(connection, run_id, where).items():
                connection.execute(_runs.update().where(_runs.c.id == one).values(**changed))

    def wait_for(self, run_id: str, after: str | None) -> None:
        """Let a run start only when another is completed; or, with None, whenever it can.

        Raises:
            RunError: There is no such run, or the other waits for this one.
        """
        with self._database.write() as connection:
            if after is not None:
                self._number(connection, after)
                queue_order.check_circle(connection, run_id, after)
            self._change(connection, run_id, {"after": after})

    def fingerprints(self, states: Iterable[RunState]) -> set[str]:
        """Fingerprints of all runs in one of these states."""
        query = sa.select(_runs.c.fingerprint).distinct()
        query = query.where(_runs.c.state.in_([str(state) for state in states]))
        with self._database.read() as connection:
            return set(connection.execute(query).scalars())

    def hand_over(self, run: Run, child: processes.Identity) -> None:
        """Give a claimed run to its process, unless that has already taken it."""
        mine = sa.and_(_runs.c.id == run.id, _runs.c.process == run.process)
        waiting = _runs.c.state.in_([str(RunState.STARTING), str(RunState.STOPPING)])
        with self._database.write() as connection:
            values = {**child.columns(), "heartbeat_at": time.time()}
            connection.execute(_runs.update().where(mine, waiting).values(**values))

    def request_stop(self, run_id: str) -> Run:
        """Ask a run to stop: a queued one is stopped at once, another by its process.

        Raises:
            RunError: There is no such run, or it has ended.
        """
        with self._database.write() as connection:
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
        with self._database.read() as connection:
            found: bool | None = connection.execute(query).scalar()
            return found is None or found

    def heartbeat(self, run_id: str) -> None:
        """Note that a run's process lives; this alone is no reason to draw a page again."""
        with self._database.write(quiet=True) as connection:
            statement = _runs.update().where(_runs.c.id == run_id).values(heartbeat_at=time.time())
            connection.execute(statement)

    def delete(self, run_id: str) -> None:
        """Forget a run with its metrics, and remove its folder.

        Raises:
            RunError: There is no such run, it is active, or its folder cannot be removed.
        """
        with self._database.write() as connection:
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

    def version(self) -> int:
        """A number that rises with each change by any process; cheap enough to ask often."""
        with self._database.read() as connection:
            return int(connection.execute(sa.select(schema.store.c.changes)).scalar_one())

    # --- within a transaction --------------------------------------------------------------------

    def _insert(
        self,
        connection: sa.Connection,
        spec: RunSpec,
        name: str | None,
        state: RunState,
        **more: Any,
    ) -> Run:
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
            "log": str(self.workspace.run(run_id) / LOG),
            "place": self._next_place(connection),
            **more,
        }
        if state is RunState.STARTING:
            values |= processes.own().columns() | {"heartbeat_at": time.time()}
        connection.execute(_runs.insert().values(**values))
        return self._read_run(connection, run_id)

    def _read_run(self, connection: sa.Connection, run_id: str) -> Run:
        row = connection.execute(_select().where(_runs.c.id == run_id)).first()
        if row is None:
            raise self._unknown(connection, run_id)
        return _run(row)

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
                     "process", "heartbeat_at", "exit_code", "slot")
                )  # fmt: skip
                if run.state is not RunState.STARTING:  # that one keeps its place
                    gone |= {"place": self._next_place(connection), "party": None}
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
