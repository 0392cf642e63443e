"""Connections and transactions; psycopg's errors end here."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Self, TypeVar

import psycopg
from psycopg import conninfo, errors
from psycopg.rows import DictRow, class_row, dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool, PoolTimeout

from ledger.errors import ChangeRefused, ConfigError, DatabaseUnavailable, LedgerError

if TYPE_CHECKING:
    from types import TracebackType

    from psycopg.rows import RowFactory, RowMaker

Connection = psycopg.Connection[DictRow]
Cursor = psycopg.Cursor[DictRow]
Row = TypeVar("Row")

DOORBELL = "settings_ledger"
"""The NOTIFY channel that is rung, without payload, after events were committed."""

PARTITION_LOCK = 0x5345_5450
"""First key of the advisory lock of a partition; the partition's number is the second."""
PUBLISHER_LOCK = 0x5345_5055
MIGRATION_LOCK = 0x5345_4D49
PROJECTION_LOCK = 0x5345_5052

# A peer that vanished without a word is noticed within half a minute: when nothing is said, by
# probes; when something was said, by its acknowledgement (milliseconds) that does not come.
_VANISHED = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}

# What a server answers when it breaks off, in any state: the statement's fate is unknown.
_BROKEN_OFF = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.IdleSessionTimeout,
    errors.IdleInTransactionSessionTimeout,
)
# What may pass by itself: worth the same attempt again.
_PASSING = (
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
    errors.QueryCanceled,
    errors.InsufficientResources,
    errors.DiskFull,
    errors.OutOfMemory,
    errors.TooManyConnections,
    errors.ReadOnlySqlTransaction,
)

__all__ = ["Connection", "Cursor", "Database", "Jsonb", "class_row", "translated_errors"]


def is_lost(error: Exception) -> bool:
    """Whether the connection broke, so that what was sent may or may not have been done."""
    if isinstance(error, _BROKEN_OFF):
        return True
    sqlstate = error.sqlstate if isinstance(error, psycopg.Error) else None
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and (
        sqlstate is None or sqlstate.startswith("08")
    )


def is_passing(error: Exception) -> bool:
    """Whether the server rolled back for a reason that may pass by itself."""
    return isinstance(error, _PASSING)


DatabaseError = psycopg.Error


def as_ledger_error(error: psycopg.Error) -> LedgerError:
    """The ledger's word for what the database said."""
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        detail = str(error).strip().splitlines()
        return DatabaseUnavailable(
            f"The database does not answer: {detail[0] if detail else 'connection lost'}."
        )
    if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn | errors.UndefinedFunction):
        return ConfigError(
            "The database lacks the ledger's tables or they are outdated: "
            "run `settings-ledger migrate`."
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return ConfigError(
            f"The database role lacks a privilege: {error.diag.message_primary}. "
            "`settings-ledger migrate` grants what the serving role needs."
        )
    return ChangeRefused(f"The database refused: {error.diag.message_primary or error}.")


def columns_of(row_class: type[Row]) -> RowFactory[Row]:
    """Rows as instances of a dataclass whose fields are the columns, by the same names in order.

    For thousands of rows: that the names are right is looked at once a query, then each row is
    filled by place, in half of the time of ``class_row``. Raises TypeError where they are not.
    """
    names = [field.name for field in fields(row_class)]  # type: ignore[arg-type]

    def factory(cursor: psycopg.Cursor[Any]) -> RowMaker[Row]:
        columns = [column.name for column in cursor.description or ()]
        if cursor.description is not None and columns != names:
            message = (
                f"{row_class.__name__} has the fields {names}, the query the columns {columns}"
            )
            raise TypeError(message)
        return lambda values: row_class(*values)

    return factory


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn psycopg's errors into the ledger's within the block."""
    try:
        yield
    except PoolTimeout:
        raise DatabaseUnavailable("No connection to the database came free in time.") from None
    except psycopg.Error as error:
        raise as_ledger_error(error) from error


def role_of(url: str) -> str | None:
    """The role that ``url`` names, None where libpq's own default decides."""
    try:
        user = conninfo.conninfo_to_dict(url).get("user")
    except psycopg.ProgrammingError:
        return None
    return None if user is None else str(user)


def _was_spoken_to(connection: Connection) -> bool:
    """Whether the server sent something, its farewell for one, while nothing was asked."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class Database:
    """One PostgreSQL database as one role: a pool for short work, connections of their own for long.

    Nothing is connected before it is used. Raises ConfigError for a URL that cannot be parsed.
    """

    def __init__(self, url: str, *, pool_size: int = 8, connect_timeout: int = 5) -> None:
        self.url = url
        try:
            given = conninfo.conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            # libpq's own words repeat parts of the URL, and those may hold the password.
            raise ConfigError(
                "The database URL cannot be understood: expected "
                "postgresql://user:password@host:port/database, with special characters as %XX."
            ) from None
        self._parameters: dict[str, Any] = {
            "connect_timeout": connect_timeout,
            **_VANISHED,
            **given,
        }
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            kwargs={
                **self._parameters,
                "application_name": "settings-ledger pool",
                "row_factory": dict_row,
            },
            connection_class=Connection,
            min_size=0,
            max_size=pool_size,
            timeout=connect_timeout * 2,
            open=False,
        )
        self._opened = False

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A pooled connection in one transaction: committed at the end, rolled back on error."""
        if not self._opened:
            self._pool.open()
            self._opened = True
        with translated_errors():
            connection = self._living()
            try:
                with connection:
                    yield connection
            finally:
                self._pool.putconn(connection)

    def _living(self) -> Connection:
        """A pooled connection that was not broken while it lay idle.

        The pool's own check costs a round trip each time, and a second per broken connection.
        """
        while True:
            try:
                connection = self._pool.getconn()
            except PoolTimeout:
                # The pool does not say why; an attempt of our own does, or shows that all are lent.
                self.connect("attempt").close()
                raise
            if not _was_spoken_to(connection):
                return connection
            connection.close()
            self._pool.putconn(connection)

    def connect(self, purpose: str, *, options: str = "") -> Connection:
        """A connection of one's own in autocommit mode; the caller closes it.

        ``purpose`` shows in pg_stat_activity, ``options`` are server settings (``-c name=value``).
        Raises DatabaseUnavailable.
        """
        given = self._parameters.get("options", "")
        with translated_errors():
            return psycopg.connect(
                **{
                    **self._parameters,
                    "options": f"{given} {options}".strip(),
                    "application_name": f"settings-ledger {purpose}",
                },
                autocommit=True,
                row_factory=dict_row,
            )

    def close(self) -> None:
        """Close the pool; connections of one's own stay with their owners."""
        if self._opened:
            self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def lock_partition(connection: Connection, partition: int) -> None:
    """Become the only writer of ``partition`` until the transaction ends.

    Must be a statement of its own and the first: a later statement sees what was committed
    while this one waited, the same statement would not.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (PARTITION_LOCK, partition))


def lock_partition_shared(connection: Connection, partition: int) -> None:
    """Wait for the writers of ``partition`` that are at work, and hold new ones off meanwhile."""
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", (PARTITION_LOCK, partition))
