"""Which queued run comes next: priority, place, what it waits for, and which slots are free.

Each function works within a transaction of the store, so that no other process comes between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from core.config.run import RunSpec
from core.errors import RunError, unknown_name
from core.runs import schema
from core.runs.run import ACTIVE, RunState
from core.runs.slots import suitable

WHERE = ("first", "up", "down", "last")

_runs = schema.runs
_before = _runs.alias("before")
_ORDER = (_runs.c.priority.desc(), _runs.c.place)


def line(connection: sa.Connection) -> list[str]:
    """Ids of the queued runs, in their order; those that wait for another one, too."""
    queued = sa.select(_runs.c.id).where(_runs.c.state == RunState.QUEUED).order_by(*_ORDER)
    return list(connection.execute(queued).scalars())


def following(
    connection: sa.Connection, slots: Mapping[str, int], host: str
) -> tuple[str, str] | None:
    """Id and slot of the run that starts next on a machine; None if none can.

    Args:
        connection: The transaction.
        slots: How many runs each device of the machine takes.
        host: The machine.
    """
    taken = _taken(connection, slots, host)
    free = {name for name, most in slots.items() if taken[name] < most}
    if not free:
        return None
    done = sa.exists().where(_before.c.id == _runs.c.after, _before.c.state == RunState.COMPLETED)
    ready = (
        sa.select(_runs.c.id, _runs.c.spec)
        .where(_runs.c.state == RunState.QUEUED)
        .where(sa.or_(_runs.c.after.is_(None), done))
        .order_by(*_ORDER)
    )
    for run_id, spec in connection.execute(ready):
        for name in suitable(_device(spec), slots):
            if name in free:
                return run_id, name
    return None


def _taken(connection: sa.Connection, slots: Mapping[str, int], host: str) -> Counter[str]:
    busy = (
        sa.select(_runs.c.id, _runs.c.party, _runs.c.slot, _runs.c.spec)
        .where(_runs.c.state.in_([str(state) for state in ACTIVE]))
        .where(sa.or_(_runs.c.host.is_(None), _runs.c.host == host))
    )
    # Runs that started together are one process, and take one slot.
    places = {
        party or run_id: slot or suitable(_device(spec), slots)[0]
        for run_id, party, slot, spec in connection.execute(busy)
    }
    return Counter(places.values())


def _device(spec: str) -> str:
    return RunSpec.from_json(spec).train.device


def moved(connection: sa.Connection, run_id: str, where: str) -> dict[str, dict[str, Any]]:
    """What changes, by run, when a queued one is moved among the others.

    A run that passes others takes over their priority.

    Args:
        connection: The transaction.
        run_id: The run.
        where: One of ``WHERE``.

    Raises:
        RunError: It is not queued, or there is no such place.
    """
    if where not in WHERE:
        raise unknown_name("place in the queue", where, WHERE, error=RunError)
    queued = (
        sa.select(_runs.c.id, _runs.c.priority, _runs.c.place)
        .where(_runs.c.state == RunState.QUEUED)
        .order_by(*_ORDER)
    )
    rows = connection.execute(queued).all()
    at = next((i for i, row in enumerate(rows) if row.id == run_id), None)
    if at is None:
        raise RunError(f"The run {run_id} is not queued, so that it has no place in the queue.")
    own, ends = rows[at], {"first": 0, "last": len(rows) - 1}
    if where in ends:
        other = rows[ends[where]]
        place = other.place + (-1 if where == "first" else 1)
        return {} if other.id == run_id else {run_id: _at(other.priority, place)}
    to = at + (-1 if where == "up" else 1)
    if not 0 <= to < len(rows):
        return {}
    other = rows[to]
    if other.priority != own.priority:  # the other is at the near end of its kind, with room beyond
        beside = other.place + (1 if where == "up" else -1)
        return {
            run_id: _at(other.priority, other.place),
            other.id: _at(other.priority, beside),
        }
    return {
        run_id: _at(own.priority, other.place),
        other.id: _at(own.priority, own.place),
    }


def _at(priority: int, place: int) -> dict[str, Any]:
    return {"priority": priority, "place": place}


def check_circle(connection: sa.Connection, run_id: str, after: str) -> None:
    """Refuse that a run waits for one that waits for it.

    Raises:
        RunError: It would.
    """
    step: str | None = after
    while step is not None:
        if step == run_id:
            raise RunError(
                f"The run {run_id} cannot wait for {after}, which waits for it.",
                "Let one of them wait for nothing.",
            )
        step = connection.execute(sa.select(_runs.c.after).where(_runs.c.id == step)).scalar()
