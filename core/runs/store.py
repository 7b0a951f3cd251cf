"""Store of runs: settings, state, curves and scores of every run, in one SQL database.

The explorer and the command line create the store; the process of a run only opens it. Each change
is one short transaction that also increments ``version()``, so that pages know when to read again.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from core.config.run import RunSpec
from core.errors import RunError
from core.runs import processes, queue_order, schema
from core.runs.database import Database, count_change, open_database
from core.runs.metrics import MAX_LISTED, MetricStore
from core.runs.run import ACTIVE, COLUMNS, Run, RunState
from core.runs.transitions import REMEDIES, TRANSITIONS, changed_fields
from core.workspace import Workspace

LOG = "log.txt"
"""Name of a run's log in its folder."""

OUTLINE = (
    "id", "name", "state", "progress", "seconds_left", "best_auroc", "last_auroc", "trainable",
    "total",
)  # fmt: skip
"""Fields of a run that show its progress."""

_runs = schema.runs
_OUTLINE_COLUMNS = [_runs.c[name] for name in OUTLINE]
_RUN_COLUMNS = [_runs.c[name].label(name) for name in COLUMNS]


def open_store(workspace: Workspace, create: bool) -> Store:
    """Open the store of a workspace; the process of a run never creates it.

    Raises:
        StoreError: There is none, or it is damaged or of a later version; it is left unchanged.
    """
    return Store(workspace, open_database(workspace, create=create))


class Store(MetricStore):
    """The store of one workspace; may be used by many threads and processes at once.

    Raises:
        StoreError: By each method, if the database cannot be read or written.
    """

    def __init__(self, workspace: Workspace, database: Database) -> None:
        super().__init__(database)
        self.workspace = workspace

    def close(self) -> None:
        """Close the database; it is opened again on the next use."""
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
            spec: Its specification.
            name: Name shown to the user; by default the title of the specification.
            state: ``STARTING`` for a run that this process executes itself, else ``QUEUED``.
            priority: Runs with a higher priority start first.
            after: Id of a run that must be completed before this one starts.

        Raises:
            RunError: There is no run with the id ``after``.
        """
        with self._database.write() as connection:
            if after is not None:
                self._number(connection, after)
            return self._insert(connection, spec, name, state, priority=priority, after=after)

    def create_group(
        self, specs: Sequence[RunSpec], names: Sequence[str] = (), *, priority: int = 0
    ) -> Sequence[Run]:
        """Add runs that start together, in one process.

        Args:
            specs: Their specifications.
            names: Their names; by default the titles of the specifications.
            priority: Runs with a higher priority start first.
        """
        group = secrets.token_hex(4)
        given: Sequence[str | None] = names or [None] * len(specs)
        # One transaction: otherwise a scheduler could claim a part of the group.
        with self._database.write() as connection:
            return [
                self._insert(
                    connection, spec, name, RunState.QUEUED, priority=priority, group=group
                )
                for spec, name in zip(specs, given, strict=True)
            ]

    def get(self, name: str) -> Run:
        """Find a run by its id, its name, or the start of its id.

        Raises:
            RunError: There is none, or there are several.
        """
        name = name.strip()
        with self._database.read() as connection:
            for matching in (_runs.c.id == name, _runs.c.name == name, _begins(_runs.c.id, name)):
                rows = connection.execute(_select().where(matching).limit(MAX_LISTED)).all()
                if len(rows) == 1:
                    return self._run(rows[0])
                if rows:
                    ids = ", ".join(row.id for row in rows)
                    raise RunError(f"Several runs are named “{name}”.", f"Give an id: {ids}.")
            raise self._unknown(connection, name)

    def list(self, states: Iterable[RunState] | None = None, limit: int | None = None) -> list[Run]:
        """List runs, the latest first: those in one of ``states``, and at most ``limit``."""
        query = _select().order_by(_runs.c.number.desc()).limit(limit)
        if states is not None:
            query = query.where(_runs.c.state.in_([str(state) for state in states]))
        with self._database.read() as connection:
            return [self._run(row) for row in connection.execute(query)]

    def outlines(self) -> Sequence[dict[str, Any]]:
        """The fields ``OUTLINE`` of all runs, the latest first; fast enough for frequent calls."""
        query = sa.select(*_OUTLINE_COLUMNS).order_by(_runs.c.number.desc())
        with self._database.read() as connection:
            return [dict(zip(OUTLINE, row, strict=True)) for row in connection.execute(query)]

    def queued_ids(self) -> Sequence[str]:
        """Ids of the queued runs, in the order in which they start."""
        with self._database.read() as connection:
            return queue_order.queued_ids(connection)

    def update(self, run_id: str, **changed: Any) -> None:
        """Change fields of a run that do not belong to its state.

        Raises:
            RunError: There is no such run.
        """
        with self._database.write() as connection:
            self._change(connection, run_id, changed)

    def transition(
        self, run_id: str, state: RunState, *, seen: Run | None = None, **changed: Any
    ) -> Run:
        """Change the state of a run, if ``TRANSITIONS`` allows it.

        Args:
            run_id: The run.
            state: Its new state.
            seen: Raise an error if the run has since changed its state or its process.
            **changed: Fields that change with it.

        Raises:
            RunError: There is no such run, or the transition is not allowed.
        """
        with self._database.write() as connection:
            run = self._read_run(connection, run_id)
            moved = seen is not None and (run.state, run.process) != (seen.state, seen.process)
            if moved or state not in TRANSITIONS[run.state]:
                raise RunError(
                    f"The run {run.id} is {run.state} and cannot become {state}.",
                    REMEDIES.get(run.state, ""),
                )
            return self._enter(connection, run, state, changed)

    def claim_next(self, slots: Mapping[str, int]) -> Run | None:
        """Claim the first queued run that can start in a slot of this machine.

        Two processes never claim the same run. Its state becomes ``STARTING``, and it belongs to
        this process until its own process is known.

        Args:
            slots: Number of simultaneous runs of each device of this machine.
        """
        own = processes.own()
        with self._database.read() as connection:  # usually there is nothing to start
            if queue_order.next_run(connection, slots, own.host) is None:
                return None
        with self._database.write(quiet=True) as connection:
            chosen = queue_order.next_run(connection, slots, own.host)
            if chosen is None:
                return None
            run_id, slot = chosen
            values = {"state": RunState.STARTING, "phase": "starting", "slot": slot}
            claimed = _runs.update().where(_runs.c.id == run_id)
            connection.execute(claimed.values(**values, **own.columns()))
            count_change(connection)
            return self._read_run(connection, run_id)

    def claim_group(self, run: Run) -> Sequence[Run]:
        """Claim the queued runs of the group of a claimed run, for the same slot."""
        if run.group is None:
            return []
        queued = sa.and_(_runs.c.group == run.group, _runs.c.state == RunState.QUEUED)
        with self._database.write() as connection:
            ids = list(connection.execute(sa.select(_runs.c.id).where(queued)).scalars())
            values = {"state": RunState.STARTING, "phase": "starting", "slot": run.slot}
            values |= processes.own().columns()
            connection.execute(_runs.update().where(_runs.c.id.in_(ids)).values(**values))
            return [self._read_run(connection, run_id) for run_id in ids]

    def move(self, run_id: str, where: str) -> None:
        """Move a queued run in the queue: ``first``, ``up``, ``down`` or ``last``.

        Raises:
            RunError: There is no such run, or it is not queued.
        """
        with self._database.write() as connection:
            self._number(connection, run_id)
            for moved_id, changed in queue_order.moved(connection, run_id, where).items():
                connection.execute(_runs.update().where(_runs.c.id == moved_id).values(**changed))

    def wait_for(self, run_id: str, after: str | None) -> None:
        """Set the run that must be completed before a run starts; None for no such run.

        Raises:
            RunError: There is no such run, or the other run waits for this one.
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

    def assign_process(self, run: Run, child: processes.Identity) -> None:
        """Record the process of a claimed run, unless that process has already done so."""
        own = sa.and_(_runs.c.id == run.id, _runs.c.process == run.process)
        waiting = _runs.c.state.in_([str(RunState.STARTING), str(RunState.STOPPING)])
        with self._database.write() as connection:
            values = {**child.columns(), "heartbeat_at": time.time()}
            connection.execute(_runs.update().where(own, waiting).values(**values))

    def request_stop(self, run_id: str) -> Run:
        """Request the stop of a run: a queued run stops at once, an active run by its process.

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
            return self._enter(connection, run, RunState.STOPPED if queued else RunState.STOPPING)

    def stop_requested(self, run_id: str) -> bool:
        """Whether a stop of the run was requested; True as well if the run was deleted."""
        query = sa.select(_runs.c.stop_requested).where(_runs.c.id == run_id)
        with self._database.read() as connection:
            requested: bool | None = connection.execute(query).scalar()
            return requested is None or requested

    def heartbeat(self, run_id: str) -> None:
        """Record that the process of a run is alive; does not increment ``version()``."""
        with self._database.write(quiet=True) as connection:
            statement = _runs.update().where(_runs.c.id == run_id).values(heartbeat_at=time.time())
            connection.execute(statement)

    def delete(self, run_id: str) -> None:
        """Delete a run with its metrics and its folder.

        Raises:
            RunError: There is no such run, it is active, or its folder cannot be removed.
        """
        with self._database.write() as connection:
            run = self._read_run(connection, run_id)
            if run.state in ACTIVE:
                raise RunError(
                    f"The run {run.id} is {run.state} and cannot be deleted.", "Stop it first."
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
                "Remove the folder yourself.",
            ) from error

    def version(self) -> int:
        """Counter that any change by any process increments; fast enough for frequent calls."""
        with self._database.read() as connection:
            return int(connection.execute(sa.select(schema.store.c.changes)).scalar_one())

    def count_change(self) -> None:
        """Increment ``version()`` because something besides the runs has changed."""
        with self._database.write():
            pass  # each write counts

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

    def _enter(
        self,
        connection: sa.Connection,
        run: Run,
        state: RunState,
        changed: Mapping[str, Any] | None = None,
    ) -> Run:
        place = self._next_place(connection) if state is RunState.QUEUED else run.place
        values = changed_fields(run, state, place) | dict(changed or {})
        if state is RunState.RUNNING and not run.attempts:
            # It may have been queued before the present edition of the phantoms.
            values["fingerprint"] = run.spec.fingerprint()
        statement = _runs.update().where(_runs.c.id == run.id)
        connection.execute(statement.values(state=state, **values))
        return self._read_run(connection, run.id)

    def _read_run(self, connection: sa.Connection, run_id: str) -> Run:
        row = connection.execute(_select().where(_runs.c.id == run_id)).first()
        if row is None:
            raise self._unknown(connection, run_id)
        return self._run(row)

    def _run(self, row: sa.Row[Any]) -> Run:
        values = dict(row._mapping)
        values["spec"] = _spec(values["spec"], values["fingerprint"])
        values["state"] = RunState(values["state"])
        return Run(**values, folder=self.workspace.run(values["id"]))

    def _next_place(self, connection: sa.Connection) -> int:
        highest = connection.execute(sa.select(sa.func.max(_runs.c.place))).scalar()
        return (highest or 0) + 1


def _select() -> sa.Select[Any]:
    return sa.select(*_RUN_COLUMNS)


@lru_cache(maxsize=4096)
def _spec(text: str, fingerprint: str) -> RunSpec:
    """Read a specification; its data set says if the run used an earlier edition of phantoms."""
    spec = RunSpec.from_json(text)
    data = spec.data
    if data.edition() is not None and spec.fingerprint() != fingerprint:
        called = f"{data.called or data.name}, earlier edition"
        return spec.model_copy(update={"data": data.model_copy(update={"called": called})})
    return spec


def _begins(column: sa.Column[Any], start: str) -> sa.ColumnElement[bool]:
    return sa.and_(sa.literal(start) != "", column.startswith(start, autoescape=True))
