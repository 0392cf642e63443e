"""The doorbell: readers are told that events were committed, and look by themselves if not."""

from __future__ import annotations

import threading
from contextlib import suppress

from ledger.database import DOORBELL, Connection, Database, DatabaseError
from ledger.errors import LedgerError

QUIET_SECONDS = 0.005
"""At most one ring in this time, however many commits."""


class Doorbell:
    """Rings after commits, from a connection and a thread of its own.

    NOTIFY takes a cluster-wide lock at commit, so it is never part of a write transaction.
    A ring that fails is dropped: it costs readers their polling interval, never an event.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._due = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def ring(self) -> None:
        """Tell the readers soon. Never blocks, never fails."""
        self._due.set()
        if self._thread is None:
            self._start()

    def close(self) -> None:
        """Ring what is due and stop."""
        self._closing.set()
        self._due.set()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(
                    target=self._loop, name="ledger doorbell", daemon=True
                )
                self._thread.start()

    def _loop(self) -> None:
        connection: Connection | None = None
        while True:
            self._due.wait()
            # Cleared first: whoever closes from here on is waited for once more.
            self._due.clear()
            closing = self._closing.is_set()
            connection = self._notify(connection)
            if closing:
                break
            self._closing.wait(QUIET_SECONDS)
        if connection is not None:
            connection.close()

    def _notify(self, connection: Connection | None) -> Connection | None:
        try:
            if connection is None:
                connection = self._database.connect("doorbell")
            connection.execute("SELECT pg_notify(%s, '')", (DOORBELL,))
        except (DatabaseError, LedgerError):
            if connection is not None:
                with suppress(DatabaseError):
                    connection.close()
            return None
        return connection


class Listener:
    """Waits for the doorbell; one thread waits, any may close. Reconnects by itself."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._using = threading.Lock()

    def wait(self, timeout: float) -> bool:
        """Whether the bell rang within ``timeout`` seconds, or may have, unheard.

        Raises DatabaseUnavailable where nobody answers.
        """
        with self._using:
            try:
                if self._connection is None:
                    self._connection = self._database.connect("listener")
                    self._connection.execute("LISTEN settings_ledger")
                    return True
                return any(True for _ in self._connection.notifies(timeout=timeout, stop_after=1))
            except DatabaseError:
                self._drop()
                return True

    def close(self) -> None:
        """Give the connection back, once nobody waits on it."""
        with self._using:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(DatabaseError):
                self._connection.close()
            self._connection = None
