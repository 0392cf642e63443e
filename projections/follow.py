"""Following the log: events become rows, and rows and cursor move in one transaction."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from ledger import eventlog
from ledger.aggregate import CHANGED_TOPIC, CREATED_TOPIC
from ledger.database import PROJECTION_LOCK, Connection, Database, DatabaseError, translated_errors
from ledger.doorbell import Listener
from ledger.errors import DatabaseUnavailable, LedgerCorrupt, LedgerError, Unavailable, UnknownTopic
from projections import cursors

logger = logging.getLogger(__name__)

PAGE = 1000
POLL_SECONDS = 0.25
LONGEST_PAUSE = 2.0


class Projection(Protocol):
    """What can follow the log: its name, and how it takes on events."""

    name: str

    def apply(self, connection: Connection, partition: int, after: int, upto: int) -> None:
        """Take on the events of the partition in (after, upto], all of known topics."""


def step(connection: Connection, projection: Projection, partition: int, limit: int = PAGE) -> int:
    """Take on the next events, in the caller's transaction; returns how many there were.

    Whoever comes first does it, the others wait for the cursor and go on behind: nothing is
    lost or doubled however many do this at once, or are killed in between.
    Raises LedgerCorrupt for a gap in the log, UnknownTopic.
    """
    prepare(connection)
    position = cursors.hold(connection, projection.name, partition)
    upto = readable(connection, partition, position, limit)
    if upto > position:
        projection.apply(connection, partition, position, upto)
        cursors.move(connection, projection.name, partition, upto)
    return upto - position


def prepare(connection: Connection) -> None:
    """Set the transaction up for taking on events.

    Rows and cursor are lost together or not at all, and the log has it all: no need to wait
    for the disk. And a plan made while the log was short would be kept while it grows.
    """
    connection.execute(
        "SELECT set_config('synchronous_commit', 'off', true), "
        "set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)"
    )


def readable(connection: Connection, partition: int, position: int, limit: int) -> int:
    """The last position of the next ``limit`` events that can be read without a break.

    Raises LedgerCorrupt or UnknownTopic where not even the next one can.
    """
    row = connection.execute(
        """
        SELECT count(*) AS events, max(position) AS last,
               min(position) FILTER (WHERE topic <> ALL (%(known)s)) AS unknown
        FROM (
            SELECT position, topic FROM events
            WHERE partition = %(partition)s AND position > %(position)s
            ORDER BY position LIMIT %(limit)s
        ) AS next
        """,
        {
            "known": [CREATED_TOPIC, CHANGED_TOPIC],
            "partition": partition,
            "position": position,
            "limit": limit,
        },
    ).fetchone()
    if row is None or not row["events"]:
        return position
    last: int = row["last"] if row["unknown"] is None else row["unknown"] - 1
    if row["last"] - position == row["events"] and last > position:
        return last
    for expected, event in enumerate(
        eventlog.read_after(connection, partition, position, limit), start=position + 1
    ):
        place = f"partition {partition}, position {event.position}"
        if event.position != expected:
            raise LedgerCorrupt(place, f"follows position {expected - 1}: there is a gap")
        if event.topic not in (CREATED_TOPIC, CHANGED_TOPIC):
            raise UnknownTopic(event.topic, place)
    return last


def catch_up(
    database: Database, projection: Projection, partition: int, position: int, timeout: float
) -> None:
    """Return once the projection has every event up to ``position``; follow the log where needed.

    So a read sees what was written before it whether or not anybody follows. Raises
    Unavailable after ``timeout`` seconds, saying how far behind the projection is.
    """
    deadline = time.monotonic() + timeout
    while True:
        with database.connection() as connection:
            reached = cursors.read(connection, projection.name, partition)
        if reached >= position:
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise Unavailable(
                f"{projection.name} is {position - reached} events behind the log, more than a "
                "read waits for: let `settings-ledger project` catch up, or try again."
            )
        with suppress(DatabaseUnavailable), database.connection() as connection:
            milliseconds = str(max(int(left * 1000), 1))
            connection.execute("SELECT set_config('lock_timeout', %s, true)", (milliseconds,))
            step(connection, projection, partition)


class Follower:
    """Keeps projections up with the log, as the only one on each partition wherever it runs.

    A session lock says who follows a partition, so that no work is done twice; that none is
    done wrongly is up to ``step``. One thread uses it.
    """

    def __init__(
        self,
        database: Database,
        projections: Sequence[Projection],
        partitions: Callable[[], Sequence[int]],
    ) -> None:
        self._database = database
        self._projections = projections
        self._partitions = partitions
        self._connection: Connection | None = None
        self._held: set[int] = set()
        self._stuck: set[int] = set()
        self._claimed_at = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Follow until ``stop`` is set. Survives the database's absence.

        Raises UnknownTopic or LedgerCorrupt once no partition is left that can be followed.
        """
        listener = Listener(self._database)
        pause, said = POLL_SECONDS, ""
        try:
            while not stop.is_set():
                try:
                    if not self.step():
                        listener.wait(POLL_SECONDS)
                    pause, said = POLL_SECONDS, ""
                except DatabaseUnavailable as error:
                    if str(error) != said:
                        said = str(error)
                        logger.warning("history cannot follow the log: %s", said)
                    self.close()
                    stop.wait(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            listener.close()
            self.close()

    def step(self) -> int:
        """Claim what nobody follows, and take on the next events of all that is held."""
        if time.monotonic() - self._claimed_at >= POLL_SECONDS:
            self.claim()
        return sum(self._follow(partition) for partition in sorted(self._held - self._stuck))

    def claim(self) -> set[int]:
        """Become the follower of each partition that has none; returns all that are held."""
        partitions = self._partitions()
        with translated_errors():
            if self._connection is None:
                self._connection = self._database.connect("projector")
            for partition in sorted(set(partitions) - self._held):
                row = self._connection.execute(
                    "SELECT pg_try_advisory_lock(%s, %s) AS taken", (PROJECTION_LOCK, partition)
                ).fetchone()
                if row and row["taken"]:
                    self._held.add(partition)
        self._claimed_at = time.monotonic()
        return set(self._held)

    def close(self) -> None:
        """Let go of every partition."""
        if self._connection is not None:
            with suppress(DatabaseError):
                self._connection.close()
        self._connection = None
        self._held.clear()
        self._claimed_at = float("-inf")

    def _follow(self, partition: int) -> int:
        done = 0
        assert self._connection is not None
        try:
            for projection in self._projections:
                with translated_errors(), self._connection.transaction():
                    done += step(self._connection, projection, partition)
        except DatabaseUnavailable:
            raise
        except (UnknownTopic, LedgerCorrupt) as fault:
            # What cannot be read now cannot be read by this program later either.
            logger.error("history of partition %d stops: %s", partition, fault)
            self._stuck.add(partition)
            if self._stuck.issuperset(self._partitions()):
                raise
        except LedgerError as error:
            logger.warning("history of partition %d waits: %s", partition, error)
        return done
