"""The database of the store: SQLite or PostgreSQL, opened, migrated and used by transactions.

A SQLite file in the workspace, or PostgreSQL by its address. In both, writers take turns from the
start of a transaction, so that what a transaction has read is still true when it writes. A database
that cannot be opened is never overwritten.
"""

from __future__ import annotations

import sqlite3
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from core.errors import StoreError
from core.runs import postgres, schema, sqlite
from core.workspace import Workspace

LOCKED_SECONDS = 60.0
"""How long a writer waits for its turn, and for a server that is being restarted."""

Backend = sqlite.File | postgres.Server
"""Opens a database and explains its errors."""


def open_database(workspace: Workspace, *, create: bool) -> Database:
    """Open the database of a workspace and migrate an earlier version to this one.

    Raises:
        StoreError: There is none and ``create`` is False, or it is damaged, unreadable or of a
            later version. It is left unchanged.
        ConfigurationError: Its address is not valid.
    """
    address = workspace.database
    backend: Backend = postgres.Server(address) if address else sqlite.File(workspace.store)
    engine = backend.open(create=create)
    try:
        _migrate(engine, backend)
    except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
        engine.dispose()
        raise backend.store_error(error) from error
    except StoreError:
        engine.dispose()
        raise
    return Database(engine, backend)


def _migrate(engine: sa.Engine, backend: Backend) -> None:
    query = sa.select(schema.store.c.version)
    with engine.connect() as connection:
        version = connection.execute(query).scalar_one()
    if version > schema.VERSION:
        raise StoreError(
            f"The store {backend} has version {version}, and this program reads versions up to "
            f"{schema.VERSION}.",
            "Update the program, or choose another workspace with --workspace DIR.",
        )
    if version < schema.VERSION:
        with engine.execution_options(writes=True).begin() as connection:
            version = connection.execute(query).scalar_one()  # another process may have migrated it
            if version < schema.VERSION:
                schema.migrate(connection, version)


class Database:
    """Transactions on an open database; may be used by many threads."""

    def __init__(self, engine: sa.Engine, backend: Backend) -> None:
        self._engine = engine
        self._backend = backend
        self._writer = engine.execution_options(writes=True)
        weakref.finalize(self, engine.dispose)

    def close(self) -> None:
        """Close all connections; they are opened again on the next use."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Open a transaction that only reads.

        Raises:
            StoreError: The database cannot be read.
        """
        try:
            with self._engine.connect() as connection, connection.begin():
                yield connection
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise self._backend.store_error(error) from error

    @contextmanager
    def write(self, quiet: bool = False, durable: bool = False) -> Iterator[sa.Connection]:
        """Open a transaction that writes, all or nothing, and increments the change counter.

        Args:
            quiet: Do not increment the counter; the caller calls ``count_change`` where needed.
            durable: Wait until this and all earlier writes are on the disk.

        Raises:
            StoreError: The database cannot be written.
        """
        try:
            with self._begin_write(durable) as connection:
                yield connection
                if not quiet:
                    count_change(connection)
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise self._backend.store_error(error) from error

    @contextmanager
    def _begin_write(self, durable: bool) -> Iterator[sa.Connection]:
        """A transaction that waits its turn among many writers, longer than SQLite itself does."""
        until = time.monotonic() + LOCKED_SECONDS
        while True:
            connection = None
            try:
                connection = self._writer.connect().execution_options(durable=durable)
                transaction = connection.begin()
                break
            except sa.exc.OperationalError as error:
                if connection is not None:
                    connection.close()
                if not self._backend.is_transient(error) or time.monotonic() > until:
                    raise
                time.sleep(0.05)
        with connection, transaction:
            yield connection


def count_change(connection: sa.Connection) -> None:
    """Increment the change counter, by which pages know when to read again."""
    changes: Any = schema.store.c.changes
    connection.execute(schema.store.update().values(changes=changes + 1))
