"""A writer's own connection: made again whenever it breaks, and asked until there is an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from ledger import eventlog
from ledger.commands import AnyCommand
from ledger.database import (
    Connection,
    Database,
    DatabaseError,
    as_ledger_error,
    is_lost,
    is_passing,
)
from ledger.errors import DatabaseUnavailable, LedgerError, OutcomeUnknown
from ledger.statement import Statement

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.5

LOST_BEFORE = (
    "The connection broke while the change was being recorded; it may or may not be in the log. "
    "Asked again, the database refused: {}"
)

# Acknowledged means on disk, and look-ups by key are planned as such whatever the statistics
# say: a plan made while the log was small would otherwise be kept while it grows. What names an
# order takes the index that has it.
SESSION = (
    "-c synchronous_commit=on -c default_transaction_read_only=off -c statement_timeout=15s "
    "-c default_transaction_isolation=read\\ committed "
    "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c enable_sort=off "
    "-c plan_cache_mode=force_generic_plan"
)

Result = TypeVar("Result")


class Link:
    """The connection of one writer. Not safe to use from several threads."""

    def __init__(self, database: Database, purpose: str) -> None:
        self._database = database
        self._purpose = purpose
        self.connection: Connection | None = None
        self._appending: Statement | None = None
        self._sent = False
        self._fetched: list[bytes | None] | None = None
        self._in_doubt = False

    def insisting(
        self, commands: Sequence[AnyCommand], work: Callable[[Connection], Result]
    ) -> Result | None:
        """What ``work`` returns, however often the connection breaks; None once nobody waits.

        ``work`` must be safe to repeat: it reads, or it offers identical bytes. Raises the
        ledger's error where the server answers that it refuses.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                return work(self._connected())
            except DatabaseUnavailable:
                pass
            except DatabaseError as error:
                self.disconnect()
                if not (is_lost(error) or is_passing(error)):
                    raise as_ledger_error(error) from error
            if all(command.settled for command in commands):
                return None
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def send(self, parameters: Sequence[bytes | None]) -> None:
        """Offer events to the log; ``answer`` takes its answer, and offers again where it must."""
        try:
            self._prepared(self._connected()).send(parameters)
            self._sent = True
        except DatabaseUnavailable:
            pass
        except DatabaseError as error:
            self._in_doubt = is_lost(error)
            self.disconnect()

    def answer(
        self, commands: Sequence[AnyCommand], parameters: Sequence[bytes | None]
    ) -> list[bytes | None] | None:
        """The log's answer to what was sent, or is sent now; None once nobody waits for it.

        Raises the ledger's error where the server refuses, and OutcomeUnknown where it refuses
        after an earlier attempt was lost: that one may be recorded all the same.
        """

        def offer(connection: Connection) -> list[bytes | None]:
            appending = self._prepared(connection)
            try:
                if self._fetched is not None:
                    fetched, self._fetched = self._fetched, None
                    return fetched
                if not self._sent:
                    appending.send(parameters)
                self._sent = False
                return appending.answer()
            except DatabaseError as error:
                self._in_doubt |= is_lost(error)
                raise

        try:
            return self.insisting(commands, offer)
        except LedgerError as error:
            if self._in_doubt:
                raise OutcomeUnknown(LOST_BEFORE.format(error)) from error
            raise
        finally:
            self._in_doubt = False

    @property
    def ready(self) -> bool:
        """Whether ``send`` need not connect first."""
        return self._appending is not None

    def fetch(self, until: float) -> bool:
        """Take in the answer to what was sent, waiting until ``until`` (monotonic seconds).

        False where none has come, or it is an error: ``answer`` deals with that, and may take
        longer.
        """
        if self._appending is None or not self._sent:
            return False
        try:
            if not self._appending.wait(until):
                return False
            self._fetched = self._appending.answer()
        except DatabaseError as error:
            self._in_doubt |= is_lost(error)
            self.disconnect()
            return False
        self._sent = False
        return True

    @property
    def socket(self) -> int | None:
        """What can be read once the answer to what was sent arrives; None where it never will."""
        return self.connection.fileno() if self.connection and self._sent else None

    @property
    def answered(self) -> bool:
        """Whether ``answer`` would not wait for what was sent."""
        if self._appending is None or not self._sent:
            return True
        try:
            return self._appending.answered
        except DatabaseError:
            return True

    def disconnect(self) -> None:
        """Close the connection; the next use makes another."""
        if self.connection is not None:
            with suppress(DatabaseError):
                self.connection.close()
            self.connection = self._appending = self._fetched = None
            self._sent = False

    def abandon(self) -> None:
        """Close the connection, and expect no answer to what was sent."""
        self.disconnect()
        self._in_doubt = False

    def _connected(self) -> Connection:
        if self.connection is None:
            self.connection = self._database.connect(self._purpose, options=SESSION)
        return self.connection

    def _prepared(self, connection: Connection) -> Statement:
        if self._appending is None:
            self._appending = eventlog.prepare_append(connection)
        return self._appending
