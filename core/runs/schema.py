"""The store's tables, and the file that holds them: made whole or not at all, never overwritten."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, String, Text

from core.errors import StoreError

VERSION = 1
BUSY_SECONDS = 10.0

tables = sa.MetaData()

store = sa.Table(
    "store",
    tables,
    Column("version", Integer, nullable=False),
    Column("changes", Integer, nullable=False),
)
"""One row: the version of these tables, and a number that each change of a run raises."""

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
    Index("metrics_by_name", "run", "name", "row"),
    sqlite_with_rowid=False,
)
"""Values of curves; ``row`` counts from 0 in each run; a value that is not a number is NULL."""


def open_engine(file: Path, *, create: bool) -> sa.Engine:
    """Open a store's file, or make it if there is none.

    Args:
        file: The SQLite file.
        create: Make the file if it does not exist.

    Raises:
        StoreError: There is no file and none may be made, or it is damaged, unreadable or of
            another version. It is left as it is.
    """
    if not file.exists():
        if not create:
            raise StoreError(
                f"There is no store of runs at {file}.",
                "Open the workspace with the explorer or a verb such as “runs” first, or choose "
                "another with --workspace DIR.",
            )
        _make(file)
    if file.stat().st_size == 0:
        raise _damaged(file, "it is empty")
    engine = _engine(file)
    try:
        with engine.connect() as connection:
            found = connection.execute(sa.select(store.c.version)).scalar_one()
    except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
        engine.dispose()
        raise explained(error, file) from error
    if found != VERSION:
        engine.dispose()
        raise StoreError(
            f"The store {file} is of version {found}, and this program reads version {VERSION}.",
            "Update the program, or choose another workspace with --workspace DIR.",
        )
    return engine


def explained(error: Exception, file: Path) -> StoreError:
    """A fault of the data base in words a user understands."""
    words = str(getattr(error, "orig", None) or error)
    low = words.lower()
    if "locked" in low or "busy" in low:
        return StoreError(
            f"The store {file} has been locked by another program for a long time.",
            "Close programs that hold the file open, and try again.",
        )
    if "full" in low:
        return StoreError(
            f"The disk of the store {file} is full.", "Free some space, and resume the run."
        )
    if "readonly" in low or "unable to open" in low or "permission" in low:
        return StoreError(
            f"The store {file} cannot be opened for writing ({words}).",
            "Check the permissions of the workspace, or choose another with --workspace DIR.",
        )
    if "i/o error" in low or "locking protocol" in low:
        return StoreError(
            f"The store {file} cannot be read or written ({words}).",
            "Check the disk it is on; network drives often cannot hold a data base.",
        )
    return _damaged(file, words)


def _damaged(file: Path, words: str) -> StoreError:
    return StoreError(
        f"The store {file} is damaged or not a store of runs ({words}).",
        f"Move {file.name} and any files beside it whose names begin with “{file.name}-” to "
        "another folder and start again; nothing was changed. The runs' folders stay.",
    )


def _url(file: Path) -> sa.URL:
    return sa.URL.create("sqlite", database=str(file))


def _engine(file: Path) -> sa.Engine:
    # Threads come and go in a web server: connections are lent to them, not bound to them.
    engine = sa.create_engine(
        _url(file),
        connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS},
        pool_size=4,
        max_overflow=-1,
    )

    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    def begin(connection: sa.Connection) -> None:
        # A transaction that first reads and then wants to write could fail at once where another
        # wrote in between; one that says so from the start waits for its turn.
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    sa.event.listen(engine, "connect", prepare)
    sa.event.listen(engine, "begin", begin)
    return engine


def _make(file: Path) -> None:
    """Make a new store beside its place and link it there: others see all of it or nothing."""
    journal = file.with_name(f"{file.name}-wal")
    if journal.exists() and not file.exists():
        raise StoreError(
            f"The store {file} is gone, but its journal {journal.name} is still there.",
            f"Put {file.name} back, or move {journal.name} to another folder as well.",
        )
    fresh = file.with_name(f".{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        engine = sa.create_engine(_url(fresh), poolclass=sa.pool.NullPool)
        tables.create_all(engine)
        with engine.begin() as connection:
            connection.execute(store.insert().values(version=VERSION, changes=1))
        with closing(sqlite3.connect(fresh)) as plain:  # the file keeps this for good
            plain.execute("PRAGMA journal_mode=WAL")
        try:
            os.link(fresh, file)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not file.exists():
                fresh.rename(file)
    except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise explained(error, file) from error
    finally:
        fresh.unlink(missing_ok=True)
