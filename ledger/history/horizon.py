"""How far a read looks: the head as it stands, or a time that can get no more events."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from ledger import eventlog, timestamps
from ledger.database import Connection, Database, is_passing, lock_partition_shared
from ledger.errors import DatabaseUnavailable, Unavailable
from ledger.history.table import HistoryTable

RIPE_SECONDS = 2.0
"""A time bound must be so old that no append with an earlier stamp can still begin.

An append is stamped at most ``eventlog.STAMP_PATIENCE`` before it holds the partition's lock.
"""
PATIENCE = 10.0
"""Seconds that a read waits for the history to follow the log."""


class Horizon:
    """Sees to it that an answer holds everything that it should, and will for ever.

    A read looks as far as the head stood when it was called. With a time bound it looks until
    nothing with an earlier stamp can be appended any more.
    """

    def __init__(
        self, database: Database, table: HistoryTable, *, patience: float = PATIENCE
    ) -> None:
        self.database = database
        self.table = table
        self._patience = patience

    def now(self) -> datetime:
        """The database's clock, by which events are stamped."""
        with self.database.connection() as connection:
            return _clock(connection)

    def heads(self, partitions: Iterable[int], until: datetime | None = None) -> dict[int, int]:
        """{partition: position} up to which the log makes the answer final.

        Raises Unavailable where that takes longer than a read may wait.
        """
        deadline = time.monotonic() + self._patience
        if until is not None:
            self._ripen(until)
        return {
            partition: self._head(partition, until, deadline) for partition in sorted(partitions)
        }

    def reach(self, partitions: Iterable[int], until: datetime | None = None) -> dict[int, int]:
        """The same, with the rows up to there in the history's table."""
        heads = self.heads(partitions, until)
        deadline = time.monotonic() + self._patience
        for partition, head in heads.items():
            self.table.catch_up(partition, head, deadline - time.monotonic())
        return heads

    def _ripen(self, until: datetime) -> None:
        while True:
            wanting = until + timedelta(seconds=RIPE_SECONDS) - self.now()
            if wanting <= timedelta(0):
                return
            time.sleep(min(wanting.total_seconds(), RIPE_SECONDS))

    def _head(self, partition: int, until: datetime | None, deadline: float) -> int:
        try:
            with self.database.connection() as connection:
                head = eventlog.head(connection, partition)
                if until is None or _has_passed(connection, partition, head, until):
                    return head
                _wait_at_most(connection, deadline - time.monotonic())
                # Whoever holds the lock may have been stamped before the bound.
                lock_partition_shared(connection, partition)
                return eventlog.head(connection, partition)
        except DatabaseUnavailable as error:
            if isinstance(error.__cause__, Exception) and is_passing(error.__cause__):
                raise Unavailable(
                    f"Partition {partition} is being written to for longer than a read waits; "
                    "what happened until then is not final yet. Try again."
                ) from error
            raise


def _clock(connection: Connection) -> datetime:
    row = connection.execute("SELECT clock_timestamp() AS now").fetchone()
    assert row is not None
    now: datetime = row["now"]
    return now.astimezone(UTC)


def _has_passed(connection: Connection, partition: int, head: int, until: datetime) -> bool:
    """Whether the head is stamped so late that nothing can come behind it with an earlier stamp.

    What comes behind it takes the lock after it was committed, with a stamp not older than
    STAMP_PATIENCE then. So busy partitions are asked about the past without their lock.
    """
    newest = eventlog.read_after(connection, partition, head - 1, 1) if head else []
    if not newest:
        return False
    stamp = timestamps.parse(newest[0].facts["timestamp"])
    return stamp > until + timedelta(seconds=RIPE_SECONDS)


def _wait_at_most(connection: Connection, seconds: float) -> None:
    milliseconds = str(max(int(seconds * 1000), 100))
    connection.execute("SELECT set_config('lock_timeout', %s, true)", (milliseconds,))
