"""The curves of runs, as the store keeps them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from core.errors import CoreError, RunError, unknown_name
from core.runs import schema
from core.runs.database import Database
from core.runs.run import MetricRow, Run, Value

MOST_NAMED = 12

_runs, _metrics = schema.runs, schema.metrics
_CHANGEABLE = {field.name for field in fields(Run)} - {
    "id", "spec", "fingerprint", "state", "created_at"
}  # fmt: skip


class Metrics:
    """The part of the store that holds curves.

    Args:
        database: Where they are.

    Raises:
        StoreError: By each method, where the data base cannot be read or written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def log_metrics(
        self, run_id: str, values: Sequence[Value], *, durable: bool = False, **changed: Any
    ) -> None:
        """Add values to a run's curves, all or none.

        Args:
            run_id: The run.
            values: Name, value, epoch, step of each.
            durable: Wait until all that was written so far would outlast a power failure.
            **changed: Fields of the run that change with them, as in ``update``.

        Raises:
            RunError: There is no such run.
        """
        with self._database.write(durable=durable) as connection:
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
    ) -> list[MetricRow]:
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
        with self._database.read() as connection:
            return [
                MetricRow(name, math.nan if value is None else value, epoch, step, row)
                for name, value, epoch, step, row in connection.execute(query)
            ]

    def curves(self, run_ids: Iterable[str], name: str) -> dict[str, list[float]]:
        """One curve of several runs, in one query.

        Args:
            run_ids: The runs.
            name: Such as ``val/auroc``.

        Returns:
            The values by run, NaN where they were no number; empty for runs that have none.
        """
        found: dict[str, list[float]] = {run_id: [] for run_id in run_ids}
        query = (
            sa.select(_runs.c.id, _metrics.c.value)
            .join(_runs, _runs.c.number == _metrics.c.run)
            .where(_runs.c.id.in_(list(found)), _metrics.c.name == name)
            .order_by(_metrics.c.run, _metrics.c.row)
        )
        with self._database.read() as connection:
            for run_id, value in connection.execute(query):
                found[run_id].append(math.nan if value is None else value)
        return found

    def count_metrics(self, run_id: str) -> int:
        """How many metrics a run has."""
        query = (
            sa.select(sa.func.count())
            .select_from(_metrics)
            .join(_runs, _runs.c.number == _metrics.c.run)
            .where(_runs.c.id == run_id)
        )
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def truncate_metrics(self, run_id: str, kept: int) -> None:
        """Keep the first ``kept`` metrics of a run and forget the later ones.

        Raises:
            RunError: There is no such run.
        """
        with self._database.write() as connection:
            number = self._number(connection, run_id)
            later = sa.and_(_metrics.c.run == number, _metrics.c.row >= kept)
            connection.execute(_metrics.delete().where(later))
            again = {"rewinds": _runs.c.rewinds + 1}
            connection.execute(_runs.update().where(_runs.c.id == run_id).values(**again))

    def _change(self, connection: sa.Connection, run_id: str, changed: dict[str, Any]) -> None:
        wrong = set(changed) - _CHANGEABLE
        if wrong:
            raise ValueError(f"These fields of a run cannot be changed: {sorted(wrong)}")
        statement = _runs.update().where(_runs.c.id == run_id).values(**changed)
        if connection.execute(statement).rowcount == 0:
            raise self._unknown(connection, run_id)

    def _number(self, connection: sa.Connection, run_id: str) -> int:
        query = sa.select(_runs.c.number).where(_runs.c.id == run_id)
        number: int | None = connection.execute(query).scalar()
        if number is None:
            raise self._unknown(connection, run_id)
        return number

    def _unknown(self, connection: sa.Connection, name: str) -> CoreError:
        query = sa.select(_runs.c.id, _runs.c.name).order_by(_runs.c.number.desc()).limit(200)
        rows = connection.execute(query).all()
        if not rows:
            return RunError(f"Unknown run “{name}”.", "There are no runs in this workspace yet.")
        close = [row.id for row in rows if name.lower() in row.name.lower()]
        known = dict.fromkeys([*close, *(row.id for row in rows)])
        return unknown_name("run", name, list(known)[:MOST_NAMED], error=RunError)


def _metric(number: int, row: int, value: Value) -> dict[str, Any]:
    name, level, epoch, step = value
    known = None if math.isnan(level) else float(level)
    return {
        "run": number, "row": row, "name": name, "value": known, "epoch": float(epoch),
        "step": int(step),
    }  # fmt: skip
