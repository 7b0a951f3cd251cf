"""Metrics table of the store: the curves of all runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from core.errors import CoreError, RunError, unknown_name
from core.runs import schema
from core.runs.database import Database
from core.runs.run import COLUMNS, MetricRow, MetricValue

MAX_LISTED = 12
"""Number of run ids that an error message lists."""

_runs, _metrics = schema.runs, schema.metrics
_CHANGEABLE = set(COLUMNS) - {
    "id", "spec", "fingerprint", "state", "created_at"
}  # fmt: skip


class MetricStore:
    """The part of the store that holds the curves.

    Raises:
        StoreError: By each method, if the database cannot be read or written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def log_metrics(
        self, run_id: str, values: Sequence[MetricValue], *, durable: bool = False, **changed: Any
    ) -> None:
        """Append values to the curves of a run, all or none.

        Args:
            run_id: The run.
            values: Name, value, epoch, step of each.
            durable: Wait until this and all earlier writes would survive a power failure.
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
        """Metrics of a run in the order in which they were recorded.

        Args:
            run_id: The run.
            names: Names of curves; by default all.
            after: Return only rows after this one, for readers that have the earlier ones.
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
            The values by run, NaN where they were not numbers; empty for runs without the curve.
        """
        values: dict[str, list[float]] = {run_id: [] for run_id in run_ids}
        query = (
            sa.select(_runs.c.id, _metrics.c.value)
            .join(_runs, _runs.c.number == _metrics.c.run)
            .where(_runs.c.id.in_(list(values)), _metrics.c.name == name)
            .order_by(_metrics.c.run, _metrics.c.row)
        )
        with self._database.read() as connection:
            for run_id, value in connection.execute(query):
                values[run_id].append(math.nan if value is None else value)
        return values

    def count_metrics(self, run_id: str) -> int:
        """Number of metrics of a run."""
        query = (
            sa.select(sa.func.count())
            .select_from(_metrics)
            .join(_runs, _runs.c.number == _metrics.c.run)
            .where(_runs.c.id == run_id)
        )
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def truncate_metrics(self, run_id: str, kept: int) -> None:
        """Keep the first ``kept`` metrics of a run and delete the others.

        Raises:
            RunError: There is no such run.
        """
        with self._database.write() as connection:
            number = self._number(connection, run_id)
            later = sa.and_(_metrics.c.run == number, _metrics.c.row >= kept)
            connection.execute(_metrics.delete().where(later))
            counted = {"rewinds": _runs.c.rewinds + 1}
            connection.execute(_runs.update().where(_runs.c.id == run_id).values(**counted))

    def _change(self, connection: sa.Connection, run_id: str, changed: dict[str, Any]) -> None:
        fixed = set(changed) - _CHANGEABLE
        if fixed:
            raise ValueError(f"These fields of a run cannot be changed: {sorted(fixed)}")
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
        return unknown_name("run", name, list(known)[:MAX_LISTED], error=RunError)


def _metric(number: int, row: int, metric: MetricValue) -> dict[str, Any]:
    name, value, epoch, step = metric
    return {
        "run": number, "row": row, "name": name,
        "value": None if math.isnan(value) else float(value), "epoch": float(epoch),
        "step": int(step),
    }  # fmt: skip
