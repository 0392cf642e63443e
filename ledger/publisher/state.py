"""What the publisher remembers between runs: cursors, waiting sites and dead letters, in SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from ledger.database import Connection, class_row

FeedKey = tuple[UUID, int]
"""A subscription on one partition."""


@dataclass(frozen=True, slots=True)
class Span:
    """A subscription on one partition: where it stands, and how far it may go.

    ``position`` is the last one done with, ``head`` the partition's last; positions above
    ``until_position`` are not received. A deleted one still gets what was appended before.
    """

    subscription_id: UUID
    partition: int
    app_id: UUID
    event_type: str
    url: str
    deleted: bool
    position: int
    until_position: int | None
    head: int

    @property
    def key(self) -> FeedKey:
        """What tells it from others."""
        return self.subscription_id, self.partition

    @property
    def target(self) -> int:
        """The last position that is to be looked at now."""
        return self.head if self.until_position is None else min(self.head, self.until_position)


@dataclass(frozen=True, slots=True)
class WaitingSite:
    """A lane as it is stored: the first version that the receiver lacks, and when to try again.

    ``seconds`` are counted from now on the database's clock, so that neither a restart nor a
    clock set anew changes the schedule.
    """

    subscription_id: UUID
    partition: int
    originator_id: UUID
    version: int
    failures: int
    seconds: float
    last_error: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that the receiver will not get: every attempt failed."""

    subscription_id: UUID
    partition: int
    position: int
    originator_id: UUID
    version: int
    attempts: int
    last_error: str


@dataclass(slots=True)
class Checkpoint:
    """Progress to be written in one transaction: a cursor may pass an event only with its lane.

    ``forgotten`` names what belongs to deleted subscriptions; ``received`` and ``failed`` count
    the attempts since the last one.
    """

    cursors: list[tuple[FeedKey, int]] = field(default_factory=list)
    waiting: list[WaitingSite] = field(default_factory=list)
    caught_up: list[tuple[FeedKey, UUID]] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    forgotten: list[FeedKey] = field(default_factory=list)
    received: int = 0
    failed: int = 0

    def __bool__(self) -> bool:
        return any((self.cursors, self.waiting, self.caught_up, self.dead, self.forgotten))


_SPANS = """
WITH heads AS MATERIALIZED (
    SELECT partition, (
        SELECT coalesce(max(position), 0) FROM events
        WHERE events.partition = partitions.partition
    ) AS head
    FROM partitions
), spans AS (
    SELECT subscription.subscription_id, heads.partition, subscription.app_id,
           subscription.event_type, subscription.url,
           subscription.deleted_at IS NOT NULL AS deleted,
           greatest(done.position, span.after_position, 0) AS position,
           span.until_position, heads.head
    FROM subscriptions AS subscription
    CROSS JOIN heads
    LEFT JOIN subscription_spans AS span USING (subscription_id, partition)
    LEFT JOIN delivery_cursors AS done USING (subscription_id, partition)
)
SELECT * FROM spans WHERE NOT deleted OR position < until_position
"""


def load_spans(connection: Connection) -> list[Span]:
    """Every subscription that has or may get something to receive, on every partition."""
    with connection.cursor(row_factory=class_row(Span)) as cursor:
        return cursor.execute(_SPANS).fetchall()


def load_waiting(connection: Connection, keys: Sequence[FeedKey]) -> list[WaitingSite]:
    """The sites that wait to be tried again, of the named subscriptions and partitions."""
    with connection.cursor(row_factory=class_row(WaitingSite)) as cursor:
        return cursor.execute(
            """
            SELECT subscription_id, partition, originator_id, version, failures, last_error,
                   extract(epoch FROM next_attempt_at - clock_timestamp())::float8 AS seconds
            FROM delivery_lanes
            JOIN unnest(%s::uuid[], %s::integer[]) AS feed (subscription_id, partition)
              USING (subscription_id, partition)
            """,
            ([key[0] for key in keys], [key[1] for key in keys]),
        ).fetchall()


def write(connection: Connection, checkpoint: Checkpoint) -> None:
    """Write progress; all of it or, where the transaction fails, nothing."""
    _write_cursors(connection, checkpoint.cursors)
    _write_waiting(connection, checkpoint.waiting)
    _delete_lanes(connection, checkpoint.caught_up)
    _write_dead(connection, checkpoint.dead)
    connection.cursor().executemany(
        "DELETE FROM delivery_lanes WHERE subscription_id = %s AND partition = %s",
        checkpoint.forgotten,
    )


def _write_cursors(connection: Connection, cursors: Iterable[tuple[FeedKey, int]]) -> None:
    connection.cursor().executemany(
        """
        INSERT INTO delivery_cursors (subscription_id, partition, position)
        VALUES (%s, %s, %s)
        ON CONFLICT (subscription_id, partition)
        DO UPDATE SET position = greatest(delivery_cursors.position, excluded.position)
        """,
        [(*key, position) for key, position in cursors],
    )


def _write_waiting(connection: Connection, waiting: Iterable[WaitingSite]) -> None:
    connection.cursor().executemany(
        """
        INSERT INTO delivery_lanes (
            subscription_id, partition, originator_id, version, failures, next_attempt_at,
            last_error
        )
        VALUES (%s, %s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s), %s)
        ON CONFLICT (subscription_id, partition, originator_id)
        DO UPDATE SET version = excluded.version, failures = excluded.failures,
                      next_attempt_at = excluded.next_attempt_at,
                      last_error = excluded.last_error
        """,
        [
            (
                lane.subscription_id,
                lane.partition,
                lane.originator_id,
                lane.version,
                lane.failures,
                lane.seconds,
                lane.last_error,
            )
            for lane in waiting
        ],
    )


def _delete_lanes(connection: Connection, lanes: Iterable[tuple[FeedKey, UUID]]) -> None:
    connection.cursor().executemany(
        """
        DELETE FROM delivery_lanes
        WHERE subscription_id = %s AND partition = %s AND originator_id = %s
        """,
        [(*key, originator_id) for key, originator_id in lanes],
    )


def _write_dead(connection: Connection, dead: Iterable[DeadLetter]) -> None:
    connection.cursor().executemany(
        """
        INSERT INTO dead_letters (
            subscription_id, partition, position, originator_id, version, attempts, last_error
        )
        VALUES (%s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (subscription_id, partition, position)
        DO UPDATE SET attempts = excluded.attempts, last_error = excluded.last_error,
                      died_at = excluded.died_at
        """,
        [
            (
                letter.subscription_id,
                letter.partition,
                letter.position,
                letter.originator_id,
                letter.version,
                letter.attempts,
                letter.last_error,
            )
            for letter in dead
        ],
    )
