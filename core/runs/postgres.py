"""A store in a PostgreSQL data base, for several machines or many writers."""

from __future__ import annotations

import sqlalchemy as sa

from core.errors import ConfigurationError, StoreError
from core.runs import schema

DRIVER = "postgresql+psycopg"
_MAKING = 0x6378725F  # a number that only this program locks while it makes its tables
_SESSION = (
    "SET lock_timeout = '60s'",
    # A machine that is suspended within a transaction must not keep all others from writing.
    "SET idle_in_transaction_session_timeout = '60s'",
)


class Server:
    """The data base of a store.

    Args:
        address: ``postgresql+psycopg://user:password@host/name``.

    Raises:
        ConfigurationError: It is no such address.
    """

    def __init__(self, address: str) -> None:
        try:
            url = sa.make_url(address)
        except sa.exc.ArgumentError:
            url = None
        if url is None or url.drivername not in (DRIVER, "postgresql"):
            raise ConfigurationError(
                "The store's address is not one of a PostgreSQL data base.",
                f"Give --store {DRIVER}://user@host/name, or leave it out for a file in the "
                "workspace.",
            )
        self._url = url.set(drivername=DRIVER)

    def __str__(self) -> str:
        return self._url.render_as_string(hide_password=True)

    def open(self, *, create: bool) -> sa.Engine:
        """Connect to the data base, and make the store's tables if there are none.

        Args:
            create: Make the tables if they do not exist.

        Raises:
            StoreError: There are none and none may be made, or the server cannot be reached.
            ConfigurationError: The driver is not installed.
        """
        try:
            engine = sa.create_engine(self._url, pool_size=4, max_overflow=-1, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                "A store in PostgreSQL needs psycopg, which is not installed.",
                "Run: pip install -e '.[postgres]'",
            ) from error
        sa.event.listen(engine, "connect", _prepare)
        sa.event.listen(engine, "begin", _begin)
        try:
            with engine.begin() as connection:
                self._tables(connection, create)
        except sa.exc.SQLAlchemyError as error:
            engine.dispose()
            raise self.explained(error) from error
        except StoreError:
            engine.dispose()
            raise
        return engine

    def passing(self, error: Exception) -> bool:
        """Whether a fault may be gone in a moment: a server that is being started anew."""
        return isinstance(error, sa.exc.OperationalError)

    def explained(self, error: Exception) -> StoreError:
        """A fault of the data base in words a user understands."""
        lines = str(getattr(error, "orig", None) or error).strip().splitlines()
        words = lines[0] if lines else type(error).__name__
        if isinstance(error, sa.exc.OperationalError):
            return StoreError(
                f"The store {self} cannot be reached ({words}).",
                "Check that the server runs, and the address, user and password in --store.",
            )
        return StoreError(
            f"The store {self} is damaged or not a store of runs ({words}).",
            "Choose another data base with --store; nothing was changed.",
        )

    def _tables(self, connection: sa.Connection, create: bool) -> None:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MAKING)))
        there = {name for name in schema.tables.tables if sa.inspect(connection).has_table(name)}
        if not there and not create:
            raise StoreError(
                f"There is no store of runs in {self}.",
                "Open it with the explorer or a verb such as “runs” first.",
            )
        if not there:
            schema.make(connection)
        elif there != set(schema.tables.tables):
            raise StoreError(
                f"The data base {self} holds other tables of the names {', '.join(sorted(there))}.",
                "Choose another data base with --store; nothing was changed.",
            )


def _prepare(connection: object, record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for statement in _SESSION:
        cursor.execute(statement)
    cursor.close()
    connection.commit()  # type: ignore[attr-defined]


def _begin(connection: sa.Connection) -> None:
    # Writers take turns from their start on, as with SQLite.
    if connection.get_execution_options().get("writes"):
        connection.exec_driver_sql("SELECT changes FROM store FOR UPDATE")
