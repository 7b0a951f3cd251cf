"""PostgreSQL backend: the store on a server, for several machines or many writers."""

from __future__ import annotations

import sqlalchemy as sa

from core.errors import ConfigurationError, StoreError
from core.runs import schema

DRIVER = "postgresql+psycopg"
_CREATE_LOCK = 0x6378725F  # advisory lock that this program takes while it creates its tables
_SESSION = (
    "SET lock_timeout = '60s'",
    # A machine that is suspended within a transaction must not block all other writers.
    "SET idle_in_transaction_session_timeout = '60s'",
)


class Server:
    """PostgreSQL database of a store.

    Args:
        address: ``postgresql+psycopg://user:password@host/name``.

    Raises:
        ConfigurationError: It is not an address of that form.
    """

    def __init__(self, address: str) -> None:
        try:
            url = sa.make_url(address)
        except sa.exc.ArgumentError:
            url = None
        if url is None or url.drivername not in (DRIVER, "postgresql"):
            raise ConfigurationError(
                "The address of the store is not a PostgreSQL address.",
                f"Give --store {DRIVER}://user@host/name, or omit it to use a file in the "
                "workspace.",
            )
        self._url = url.set(drivername=DRIVER)

    def __str__(self) -> str:
        return self._url.render_as_string(hide_password=True)

    def open(self, *, create: bool) -> sa.Engine:
        """Connect to the database, and create the tables of the store if there are none.

        Raises:
            StoreError: There are none and ``create`` is False, or the server cannot be reached.
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
                self._check_tables(connection, create)
        except sa.exc.SQLAlchemyError as error:
            engine.dispose()
            raise self.store_error(error) from error
        except StoreError:
            engine.dispose()
            raise
        return engine

    def is_transient(self, error: Exception) -> bool:
        """Whether an error may disappear when repeated, as while a server is being restarted."""
        return isinstance(error, sa.exc.OperationalError)

    def store_error(self, error: Exception) -> StoreError:
        """Convert a database error to one with a cause and a remedy for the user."""
        lines = str(getattr(error, "orig", None) or error).strip().splitlines()
        message = lines[0] if lines else type(error).__name__
        if isinstance(error, sa.exc.OperationalError):
            return StoreError(
                f"The store {self} cannot be reached ({message}).",
                "Start the server, or check the address, user and password in --store.",
            )
        return StoreError(
            f"The store {self} is damaged or not a store of runs ({message}).",
            "Choose another database with --store. Nothing was changed.",
        )

    def _check_tables(self, connection: sa.Connection, create: bool) -> None:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATE_LOCK)))
        existing = {name for name in schema.tables.tables if sa.inspect(connection).has_table(name)}
        if not existing and not create:
            raise StoreError(
                f"There is no store of runs in {self}.",
                "Open it with the explorer or with a verb such as “runs” first.",
            )
        if not existing:
            schema.create_tables(connection)
        elif existing != set(schema.tables.tables):
            raise StoreError(
                f"The database {self} has other tables named {', '.join(sorted(existing))}.",
                "Choose another database with --store. Nothing was changed.",
            )


def _prepare(connection: object, record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for statement in _SESSION:
        cursor.execute(statement)
    cursor.close()
    connection.commit()  # type: ignore[attr-defined]


def _begin(connection: sa.Connection) -> None:
    # Writers take turns from the start of a transaction, as with SQLite.
    if connection.get_execution_options().get("writes"):
        connection.exec_driver_sql("SELECT changes FROM store FOR UPDATE")
