"""A store in a SQLite file."""

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
    """The file of a store.

    Attributes:
        path: Where it is.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def open(self, *, create: bool) -> sa.Engine:
        """Open the file, or make it if there is none.

        Args:
            create: Make the file if it does not exist.

        Raises:
            StoreError: There is no file and none may be made, or it is empty.
        """
        if not self.path.exists():
            if not create:
                raise StoreError(
                    f"There is no store of runs at {self}.",
                    "Open the workspace with the explorer or a verb such as “runs” first, or "
                    "choose another with --workspace DIR.",
                )
            self._make()
        if self.path.stat().st_size == 0:
            raise self._damaged("it is empty")
        return _engine(self.path)

    def passing(self, error: Exception) -> bool:
        """Whether a fault may be gone in a moment."""
        return "locked" in str(error)

    def explained(self, error: Exception) -> StoreError:
        """A fault of the data base in words a user understands."""
        words = str(getattr(error, "orig", None) or error)
        low = words.lower()
        if "locked" in low or "busy" in low:
            return StoreError(
                f"The store {self} has been locked by another program for a long time.",
                "Close programs that hold the file open, and try again.",
            )
        if "full" in low:
            return StoreError(
                f"The disk of the store {self} is full.", "Free some space, and resume the run."
            )
        if "readonly" in low or "unable to open" in low or "permission" in low:
            return StoreError(
                f"The store {self} cannot be opened for writing ({words}).",
                "Check the permissions of the workspace, or choose another with --workspace DIR.",
            )
        if "i/o error" in low or "locking protocol" in low:
            return StoreError(
                f"The store {self} cannot be read or written ({words}).",
                "Check the disk it is on; network drives often cannot hold a data base.",
            )
        return self._damaged(words)

    def _damaged(self, words: str) -> StoreError:
        name = self.path.name
        return StoreError(
            f"The store {self} is damaged or not a store of runs ({words}).",
            f"Move {name} and any files beside it whose names begin with “{name}-” to another "
            "folder and start again; nothing was changed. The runs' folders stay.",
        )

    def _make(self) -> None:
        """Make a new store beside its place and link it there: others see all of it or nothing."""
        file = self.path
        journal = file.with_name(f"{file.name}-wal")
        if journal.exists() and not file.exists():
            raise StoreError(
                f"The store {file} is gone, but its journal {journal.name} is still there.",
                f"Put {file.name} back, or move {journal.name} to another folder as well.",
            )
        fresh = file.with_name(f".{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            engine = sa.create_engine(_url(fresh), poolclass=sa.pool.NullPool)
            with engine.begin() as connection:
                schema.make(connection)
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
            raise self.explained(error) from error
        finally:
            fresh.unlink(missing_ok=True)


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
        options = connection.get_execution_options()
        writes = options.get("writes")
        if writes:
            synchronous = "FULL" if options.get("durable") else "NORMAL"
            connection.exec_driver_sql(f"PRAGMA synchronous={synchronous}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    sa.event.listen(engine, "connect", prepare)
    sa.event.listen(engine, "begin", begin)
    return engine
