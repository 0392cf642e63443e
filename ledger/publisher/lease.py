"""The right to publish: each process has one lease, and takes feeds on for as long as it holds."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

from ledger.database import PUBLISHER_LOCK, Connection, Database, DatabaseError, translated_errors
from ledger.errors import Unavailable

Result = TypeVar("Result")

LEASE = 20.0
"""Seconds that a lease lasts; longer than any attempt may take."""

RENEWAL = 1.0
"""Seconds after which it is renewed."""

FAREWELL = 1.0
"""Seconds that a process has to stop once its session is gone; it looks every quarter of one."""

_REGISTER = """
INSERT INTO publishers (publisher_id, place, expires_at)
VALUES (%s, %s, clock_timestamp() + make_interval(secs => %s))
ON CONFLICT (publisher_id) DO UPDATE
SET number = excluded.number, expires_at = excluded.expires_at
RETURNING number
"""

# Whoever was killed lost its session at once; nobody need wait for its lease to run out.
_HASTEN = """
UPDATE publishers SET expires_at = clock_timestamp() + make_interval(secs => %(farewell)s)
WHERE expires_at > clock_timestamp() + make_interval(secs => %(farewell)s)
  AND NOT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND classid::bigint = %(lock)s AND objid::bigint = number
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  )
"""


class LeaseLost(Unavailable):
    """The lease ran out, by a stopped process or a lost connection: others may have taken over."""


def clock() -> float:
    """Seconds that no change of the time of day moves, and that a machine's sleep counts."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Lease:
    """A process's lease, and the only connection on which its progress is written.

    ``holds_for`` is judged by this process's monotonic clock from before the renewal was sent,
    so it ends here before it ends for others. Progress is fenced by each feed's epoch, so one
    who comes late writes nothing. Blocking, one thread at a time, but for ``holds_for``.
    """

    def __init__(self, connection: Connection, publisher_id: UUID, seconds: float) -> None:
        self.publisher_id = publisher_id
        self._connection = connection
        self._seconds = seconds
        self._until = 0.0

    @classmethod
    def open(cls, database: Database, publisher_id: UUID, seconds: float = LEASE) -> Lease:
        """A lease of one's own, without feeds yet. Raises DatabaseUnavailable."""
        connection = database.connect("publisher")
        lease = cls(connection, publisher_id, seconds)
        try:
            lease.transact(lease._register)
        except BaseException:
            connection.close()
            raise
        return lease

    def holds_for(self, seconds: float) -> bool:
        """Whether it surely lasts so long."""
        return clock() + seconds <= self._until

    def renew(self, connection: Connection) -> None:
        """Prolong it, where it is time to. Raises LeaseLost where it has run out."""
        began = clock()
        if self._until - began > self._seconds - RENEWAL:
            return
        renewed = connection.execute(
            """
            UPDATE publishers SET expires_at = clock_timestamp() + make_interval(secs => %s)
            WHERE publisher_id = %s AND expires_at > clock_timestamp()
            RETURNING publisher_id
            """,
            (self._seconds, self.publisher_id),
        ).fetchone()
        if renewed is None:
            raise LeaseLost("The publisher's lease ran out while it stood still.")
        self._hasten(connection)
        self._until = began + self._seconds

    def transact(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in one transaction of the lease's session.

        Statements are pipelined: only those whose rows are fetched are waited for, because
        each wait can cost as long as the event loop keeps the interpreter to itself.
        Raises DatabaseUnavailable where the session is gone.
        """
        connection = self._connection
        with translated_errors(), connection.pipeline(), connection.transaction():
            return work(connection)

    def ask(self, question: Callable[[Connection], Result]) -> Result:
        """Run ``question``, whose statements need not be of one transaction, in the session.

        Raises DatabaseUnavailable where the session is gone.
        """
        with translated_errors():
            return question(self._connection)

    def release(self) -> None:
        """Let others take over at once."""
        with suppress(DatabaseError), self._connection.transaction():
            self._let_go(self._connection)
            self._connection.execute(
                "DELETE FROM publishers WHERE publisher_id = %s", (self.publisher_id,)
            )
        with suppress(DatabaseError):
            self._connection.close()

    def _register(self, connection: Connection) -> None:
        began = clock()
        # What an earlier session of this process held is nobody's now.
        self._let_go(connection)
        place = f"{socket.gethostname()}:{os.getpid()}"
        row = connection.execute(_REGISTER, (self.publisher_id, place, self._seconds)).fetchone()
        assert row is not None
        connection.execute("SELECT pg_advisory_lock(%s, %s)", (PUBLISHER_LOCK, row["number"]))
        connection.execute(
            "DELETE FROM publishers WHERE expires_at < clock_timestamp() - interval '1 hour'"
        )
        # One that was killed and is started again need not wait for its first renewal.
        self._hasten(connection)
        self._until = began + self._seconds

    def _hasten(self, connection: Connection) -> None:
        connection.execute(_HASTEN, {"farewell": FAREWELL, "lock": PUBLISHER_LOCK})

    def _let_go(self, connection: Connection) -> None:
        connection.execute(
            "UPDATE delivery_cursors SET publisher_id = NULL WHERE publisher_id = %s",
            (self.publisher_id,),
        )
