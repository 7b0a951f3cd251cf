"""Order of the queue: priority, place, runs to wait for, and free slots.

Each function works within a transaction of the store, so that no other process interferes.
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
from core.runs.slots import suitable_slots

MOVES = ("first", "up", "down", "last")
"""Ways to move a run in the queue."""

_runs = schema.runs
_before = _runs.alias("before")
_ORDER = (_runs.c.priority.desc(), _runs.c.place)


def queued_ids(connection: sa.Connection) -> list[str]:
    """Ids of the queued runs in their order, including those that wait for another run."""
    queued = sa.select(_runs.c.id).where(_runs.c.state == RunState.QUEUED).order_by(*_ORDER)
    return list(connection.execute(queued).scalars())


def next_run(
    connection: sa.Connection, slots: Mapping[str, int], host: str
) -> tuple[str, str] | None:
    """Id and slot of the run that starts next on a machine; None if no run can start.

    Args:
        connection: The transaction.
        slots: Number of simultaneous runs of each device of the machine.
        host: The machine.
    """
    taken = _taken_slots(connection, slots, host)
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
        for name in suitable_slots(_device(spec), slots):
            if name in free:
                return run_id, name
    return None


def _taken_slots(connection: sa.Connection, slots: Mapping[str, int], host: str) -> Counter[str]:
    active = (
        sa.select(_runs.c.id, _runs.c.group, _runs.c.slot, _runs.c.spec)
        .where(_runs.c.state.in_([str(state) for state in ACTIVE]))
        .where(sa.or_(_runs.c.host.is_(None), _runs.c.host == host))
    )
    # The runs of a group are one process, and take one slot.
    taken = {
        group or run_id: slot or suitable_slots(_device(spec), slots)[0]
        for run_id, group, slot, spec in connection.execute(active)
    }
    return Counter(taken.values())


def _device(spec: str) -> str:
    return RunSpec.from_json(spec).train.device


def moved(connection: sa.Connection, run_id: str, where: str) -> dict[str, dict[str, Any]]:
    """Fields that change, by run, when a queued run is moved in the queue (see ``MOVES``).

    A run that is moved past another one takes its priority.

    Raises:
        RunError: It is not queued, or ``where`` is unknown.
    """
    if where not in MOVES:
        raise unknown_name("place in the queue", where, MOVES, error=RunError)
    queued = (
        sa.select(_runs.c.id, _runs.c.priority, _runs.c.place)
        .where(_runs.c.state == RunState.QUEUED)
        .order_by(*_ORDER)
    )
    rows = connection.execute(queued).all()
    index = next((i for i, row in enumerate(rows) if row.id == run_id), None)
    if index is None:
        raise RunError(f"The run {run_id} is not queued and cannot be moved in the queue.")
    own, ends = rows[index], {"first": 0, "last": len(rows) - 1}
    if where in ends:
        other = rows[ends[where]]
        place = other.place + (-1 if where == "first" else 1)
        return {} if other.id == run_id else {run_id: _position(other.priority, place)}
    target = index + (-1 if where == "up" else 1)
    if not 0 <= target < len(rows):
        return {}
    other = rows[target]
    if other.priority != own.priority:
        # The other run is the first or last of its priority: the place next to it is free.
        beyond = other.place + (1 if where == "up" else -1)
        return {
            run_id: _position(other.priority, other.place),
            other.id: _position(other.priority, beyond),
        }
    return {
        run_id: _position(own.priority, other.place),
        other.id: _position(own.priority, own.place),
    }


def _position(priority: int, place: int) -> dict[str, Any]:
    return {"priority": priority, "place": place}


def check_circle(connection: sa.Connection, run_id: str, after: str) -> None:
    """Check that two runs do not wait for each other, directly or through other runs.

    Raises:
        RunError: They would.
    """
    step: str | None = after
    while step is not None:
        if step == run_id:
            raise RunError(
                f"The run {run_id} cannot wait for {after}, which waits for it.",
                "Remove the dependency of one of the runs.",
            )
        step = connection.execute(sa.select(_runs.c.after).where(_runs.c.id == step)).scalar()
