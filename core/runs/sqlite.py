"""SQLite backend: the store in one file of the workspace."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from core.errors import StoreError
from core.runs import schema

BUSY_SECONDS = 10.0


@dataclass(frozen=True)
class File:
    """SQLite file of a store."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def open(self, *, create: bool) -> sa.Engine:
        """Open the file, or create it if there is none.

        Raises:
            StoreError: There is no file and ``create`` is False, or it is empty.
        """
        if not self.path.exists():
            if not create:
                raise StoreError(
                    f"There is no store of runs at {self}.",
                    "Open the workspace with the explorer or with a verb such as “runs” first, or "
                    "choose another one with --workspace DIR.",
                )
            self._create()
        if self.path.stat().st_size == 0:
            raise self._damaged("it is empty")
        return _engine(self.path)

    def is_transient(self, error: Exception) -> bool:
        """Whether an error may disappear when the operation is repeated."""
        return "locked" in str(error)

    def store_error(self, error: Exception) -> StoreError:
        """Convert a database error to one with a cause and a remedy for the user."""
        message = str(getattr(error, "orig", None) or error)
        low = message.lower()
        if "locked" in low or "busy" in low:
            return StoreError(
                f"The store {self} is locked by another program.",
                "Close programs that have the file open, and try again.",
            )
        if "full" in low:
            return StoreError(
                f"The disk of the store {self} is full.", "Free some space and resume the run."
            )
        if "readonly" in low or "unable to open" in low or "permission" in low:
            return StoreError(
                f"The store {self} cannot be opened for writing ({message}).",
                "Check the permissions of the workspace, or choose another with --workspace DIR.",
            )
        if "i/o error" in low or "locking protocol" in low:
            return StoreError(
                f"The store {self} cannot be read or written ({message}).",
                "Check its disk. Many network drives do not support SQLite databases.",
            )
        return self._damaged(message)

    def _damaged(self, reason: str) -> StoreError:
        name = self.path.name
        return StoreError(
            f"The store {self} is damaged or not a store of runs ({reason}).",
            f"Move {name}, and all files in its folder whose names begin with “{name}-”, to "
            "another folder and start again. Nothing was changed; the folders of the runs stay.",
        )

    def _create(self) -> None:
        """Create the store under a temporary name and link it: other processes see it complete."""
        file = self.path
        journal = file.with_name(f"{file.name}-wal")
        if journal.exists() and not file.exists():
            raise StoreError(
                f"The store {file} is missing, but its journal {journal.name} still exists.",
                f"Restore {file.name}, or move {journal.name} to another folder.",
            )
        fresh = file.with_name(f".{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            engine = sa.create_engine(_url(fresh), poolclass=sa.pool.NullPool)
            with engine.begin() as connection:
                schema.create_tables(connection)
            with closing(sqlite3.connect(fresh)) as plain:  # stored in the file
                plain.execute("PRAGMA journal_mode=WAL")
            try:
                os.link(fresh, file)
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                if not file.exists():
                    fresh.rename(file)
        except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise self.store_error(error) from error
        finally:
            fresh.unlink(missing_ok=True)


def _url(file: Path) -> sa.URL:
    return sa.URL.create("sqlite", database=str(file))


def _engine(file: Path) -> sa.Engine:
    # The threads of a web server start and end: connections are lent to them, not bound to them.
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
        # A transaction that reads first and writes later fails at once if another one wrote in
        # between; one that declares it at its start waits for its turn.
        options = connection.get_execution_options()
        writes = options.get("writes")
        if writes:
            synchronous = "FULL" if options.get("durable") else "NORMAL"
            connection.exec_driver_sql(f"PRAGMA synchronous={synchronous}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    sa.event.listen(engine, "connect", prepare)
    sa.event.listen(engine, "begin", begin)
    return engine
