"""The right to publish: one process holds it, the others wait."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from ledger.database import PUBLISHER_LOCK, Connection, Database, DatabaseError, translated_errors

Result = TypeVar("Result")


class Lease:
    """A session's advisory lock, and the only connection on which progress is written.

    Because lock and writes share one session, whoever lost the lock cannot write any more.
    Blocking; one thread at a time.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, database: Database) -> Lease:
        """A session that may take the lease. Raises DatabaseUnavailable."""
        return cls(database.connect("publisher"))

    def take(self) -> bool:
        """Whether the lease is this session's now; ask once. Raises DatabaseUnavailable."""
        with translated_errors():
            row = self._connection.execute(
                "SELECT pg_try_advisory_lock(%s, 0) AS mine", (PUBLISHER_LOCK,)
            ).fetchone()
        return row is not None and bool(row["mine"])

    def transact(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in one transaction of the session that holds the lock.

        Raises DatabaseUnavailable where the session is gone, and the lock with it.
        """
        with translated_errors(), self._connection.transaction():
            return work(self._connection)

    def release(self) -> None:
        """Let the next one take over."""
        with suppress(DatabaseError):
            self._connection.close()
