"""Tables of the store, their version, and the migrations from earlier versions."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, String, Text

VERSION = 3

tables = sa.MetaData()

store = sa.Table(
    "store",
    tables,
    Column("version", Integer, nullable=False),
    Column("changes", Integer, nullable=False),
)
"""One row: the version of these tables, and a counter that each change of a run increments."""

runs = sa.Table(
    "runs",
    tables,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(16), nullable=False, unique=True),
    Column("name", Text, nullable=False, index=True),
    Column("spec", Text, nullable=False),
    Column("fingerprint", String(16), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("place", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("progress", Float),
    Column("phase", Text),
    Column("seconds_left", Float),
    Column("seconds", Float),
    Column("best_auroc", Float),
    Column("last_auroc", Float),
    Column("trainable", Integer),
    Column("total", Integer),
    Column("device", Text),
    Column("scores", JSON(none_as_null=True)),
    Column("environment", JSON(none_as_null=True)),
    Column("failure_kind", Text),
    Column("failure_reason", Text),
    Column("failure_remedy", Text),
    Column("traceback", Text),
    Column("attempts", Integer, nullable=False),
    Column("host", Text),
    Column("pid", Integer),
    Column("process", Text),
    Column("heartbeat_at", Float),
    Column("stop_requested", Boolean, nullable=False),
    Column("priority", Integer, nullable=False, server_default=sa.text("0")),
    Column("after", String(16)),
    Column("slot", Text),
    Column("exit_code", Integer),
    Column("log", Text),
    Column("rewinds", Integer, nullable=False, server_default=sa.text("0")),
    Column("party", String(16), key="group"),  # the name that version 3 gave the column
    sqlite_autoincrement=True,
)

metrics = sa.Table(
    "metrics",
    tables,
    Column("run", Integer, ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True),
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("value", Float),
    Column("epoch", Float, nullable=False),
    Column("step", Integer, nullable=False),
    Index("metrics_by_name", "run", "name", "row", "value"),
    sqlite_with_rowid=False,
)
"""Values of curves; ``row`` counts from 0 in each run; NaN is stored as NULL."""


STEPS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE runs ADD COLUMN priority INTEGER DEFAULT 0 NOT NULL",
        "ALTER TABLE runs ADD COLUMN after VARCHAR(16)",
        "ALTER TABLE runs ADD COLUMN slot TEXT",
        "ALTER TABLE runs ADD COLUMN exit_code INTEGER",
        "ALTER TABLE runs ADD COLUMN log TEXT",
        "ALTER TABLE runs ADD COLUMN rewinds INTEGER DEFAULT 0 NOT NULL",
        "DROP INDEX metrics_by_name",
        "CREATE INDEX metrics_by_name ON metrics (run, name, row, value)",
    ),
    2: ("ALTER TABLE runs ADD COLUMN party VARCHAR(16)",),
}
"""By version, the statements that migrate to the next one. Columns are only added, because the
process of a run that was started by the earlier version continues to write its own columns."""


def migrate(connection: sa.Connection, version: int) -> None:
    """Migrate the tables from an earlier version to the present one, within one transaction."""
    for earlier in range(version, VERSION):
        for statement in STEPS[earlier]:
            connection.exec_driver_sql(statement)
    connection.execute(store.update().values(version=VERSION, changes=store.c.changes + 1))


def create_tables(connection: sa.Connection) -> None:
    """Create the tables in an empty database."""
    tables.create_all(connection)
    connection.execute(store.insert().values(version=VERSION, changes=1))
