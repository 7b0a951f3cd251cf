"""The data base that holds the store: opened whole or not at all, never overwritten.

A SQLite file in the workspace, or PostgreSQL by its address. Both let writers take turns from the
start of a transaction, so that what one has read is still true when it writes.
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
"""How long a writer waits for its turn, and for a server that is being started anew."""

Kind = sqlite.File | postgres.Server
"""Where a data base is; opens it and explains its faults."""


def open_database(workspace: Workspace, *, create: bool) -> Database:
    """Open a workspace's data base, bringing an older one up to this version.

    Args:
        workspace: The workspace.
        create: Make the data base if there is none.

    Raises:
        StoreError: There is none and none may be made, or it is damaged, unreadable or of a later
            version. It is left as it is.
        ConfigurationError: Its address is none.
    """
    address = workspace.database
    kind: Kind = postgres.Server(address) if address else sqlite.File(workspace.store)
    engine = kind.open(create=create)
    try:
        _upgrade(engine, kind)
    except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
        engine.dispose()
        raise kind.explained(error) from error
    except StoreError:
        engine.dispose()
        raise
    return Database(engine, kind)


def _upgrade(engine: sa.Engine, kind: Kind) -> None:
    version = sa.select(schema.store.c.version)
    with engine.connect() as connection:
        found = connection.execute(version).scalar_one()
    if found > schema.VERSION:
        raise StoreError(
            f"The store {kind} is of version {found}, and this program reads up to version "
            f"{schema.VERSION}.",
            "Update the program, or choose another workspace with --workspace DIR.",
        )
    if found < schema.VERSION:
        with engine.execution_options(writes=True).begin() as connection:
            found = connection.execute(version).scalar_one()  # another may have been quicker
            if found < schema.VERSION:
                schema.migrate(connection, found)


class Database:
    """Transactions on an opened data base; may be used by many threads.

    Args:
        engine: Its connections.
        kind: What it is.
    """

    def __init__(self, engine: sa.Engine, kind: Kind) -> None:
        self._engine = engine
        self._kind = kind
        self._writer = engine.execution_options(writes=True)
        weakref.finalize(self, engine.dispose)

    def close(self) -> None:
        """Close all connections; they are opened again when they are needed."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads.

        Raises:
            StoreError: The data base cannot be read.
        """
        try:
            with self._engine.connect() as connection, connection.begin():
                yield connection
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise self._kind.explained(error) from error

    @contextmanager
    def write(self, quiet: bool = False, durable: bool = False) -> Iterator[sa.Connection]:
        """A transaction that writes, all or nothing, and raises the number of changes.

        Args:
            quiet: Leave that number; ``tell`` raises it where there was something to tell.
            durable: Wait until the disk has it, and all that was written before.

        Raises:
            StoreError: The data base cannot be written.
        """
        try:
            with self._turn(durable) as connection:
                yield connection
                if not quiet:
                    tell(connection)
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise self._kind.explained(error) from error

    @contextmanager
    def _turn(self, durable: bool) -> Iterator[sa.Connection]:
        """A transaction that waits its turn among many writers, longer than SQLite does itself."""
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
                if not self._kind.passing(error) or time.monotonic() > until:
                    raise
                time.sleep(0.05)
        with connection, transaction:
            yield connection


def tell(connection: sa.Connection) -> None:
    """Raise the number of changes, by which pages know when to read again."""
    changes: Any = schema.store.c.changes
    connection.execute(schema.store.update().values(changes=changes + 1))
