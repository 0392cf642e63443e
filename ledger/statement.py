"""Prepared statements of a connection: sent, and their answers awaited apart."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from psycopg import OperationalError, errors, pq

if TYPE_CHECKING:
    from ledger.database import Connection

LONGEST_POLL = 3600.0
"""Seconds; the system takes no more than some weeks at once."""


class Statement:
    """Sends parameters as they are, in PostgreSQL's binary format, and hands back the row as it is.

    Work goes on between ``send`` and ``answer``: the server is at it meanwhile. The connection
    must be in autocommit mode, have no other Statement of this ``name``, and do nothing else until
    the answer was taken. Raises psycopg's errors.
    """

    def __init__(self, connection: Connection, text: str, name: str = "ledger") -> None:
        self._encoding = connection.info.encoding
        self._pgconn = connection.pgconn
        self._name = name.encode()
        self._raise_for(self._pgconn.prepare(self._name, text.encode()))

    @classmethod
    def prepared(cls, connection: Connection, text: str, name: str) -> Statement:
        """The connection's statement of this name, prepared at its first use."""
        statements = _prepared.setdefault(connection, {})
        if name not in statements:
            statements[name] = cls(connection, text, name)
        return statements[name]

    def send(self, parameters: Sequence[bytes | None]) -> None:
        """Have the server begin; returns once it has all of the request."""
        binary = [pq.Format.BINARY] * len(parameters)
        self._pgconn.send_query_prepared(self._name, parameters, binary, pq.Format.BINARY)
        while self._pgconn.flush():
            self._await(select.POLLIN | select.POLLOUT)

    def answer(self) -> list[bytes | None]:
        """The one row of the answer."""
        results = list(iter(self._next_result, None))
        for result in results:
            self._raise_for(result)
        return [results[-1].get_value(0, column) for column in range(results[-1].nfields)]

    @property
    def answered(self) -> bool:
        """Whether the answer has come."""
        self._pgconn.consume_input()
        return not self._pgconn.is_busy()

    def wait(self, until: float) -> bool:
        """Whether the answer has come, at last by ``until`` (monotonic seconds)."""
        while self._pgconn.is_busy():
            left = until - time.monotonic()
            if left <= 0:
                return False
            self._await(select.POLLIN, left)
        return True

    def _next_result(self) -> pq.abc.PGresult | None:
        while self._pgconn.is_busy():
            self._await(select.POLLIN)
        return self._pgconn.get_result()

    def _await(self, event: int, seconds: float | None = None) -> None:
        """Block until the server speaks (or, where asked for, listens); take in what it says."""
        poll = select.poll()
        poll.register(self._pgconn.socket, event)
        poll.poll(None if seconds is None else min(seconds, LONGEST_POLL) * 1000)
        self._pgconn.consume_input()

    def _raise_for(self, result: pq.abc.PGresult) -> None:
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            if not result.error_field(pq.DiagnosticField.SQLSTATE):
                raise OperationalError(result.get_error_message())
            raise errors.error_from_result(result, encoding=self._encoding)


_prepared: WeakKeyDictionary[Connection, dict[str, Statement]] = WeakKeyDictionary()
