"""Progress: cursors, waiting sites and dead letters, written in one transaction, or refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from ledger.database import Connection, class_row
from ledger.publisher.breaker import Opened
from ledger.publisher.journal import Attempt, copy_attempts
from ledger.publisher.spans import FeedKey


@dataclass(frozen=True, slots=True)
class WaitingSite:
    """A lane as it is stored: the first version that the receiver lacks, and when to try again.

    ``alone`` is that version where the lane retries only that one, else 0. ``seconds`` are
    counted from now on the database's clock, so that neither a restart nor a clock set anew
    changes the schedule.
    """

    feed_id: UUID
    partition: int
    originator_id: UUID
    alone: int
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
class Progress:
    """One feed's progress since the last time; ``epoch`` is the right by which it is written.

    A cursor may pass an event only together with its lane, so all of it is written or none.
    ``cursor`` is None while it has not moved; ``beyond`` goes with it. ``forgotten`` is set for
    what belongs to a deleted subscription or an ended replay. ``subscription_id`` is whose feed
    it is, for the log.
    """

    key: FeedKey
    epoch: int
    cursor: int | None = None
    beyond: Sequence[int] = ()
    waiting: list[WaitingSite] = field(default_factory=list)
    caught_up: list[tuple[UUID, int]] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    pause: tuple[UUID, str] | None = None
    breaker: Opened | None = None
    breaker_changed: bool = False
    finished: bool = False
    forgotten: bool = False
    attempts: list[Attempt] = field(default_factory=list)
    received: int = 0
    failed: int = 0
    subscription_id: UUID | None = None

    def __bool__(self) -> bool:
        return self.cursor is not None or any(
            (
                *(self.waiting, self.caught_up, self.dead, self.attempts),
                *(self.pause, self.breaker_changed, self.finished, self.forgotten),
            )
        )


def load_waiting(connection: Connection, keys: Sequence[FeedKey]) -> list[WaitingSite]:
    """The sites that wait to be tried again, of the named feeds."""
    with connection.cursor(row_factory=class_row(WaitingSite)) as cursor:
        return cursor.execute(
            """
            SELECT feed_id, partition, originator_id, alone, version, failures, last_error,
                   extract(epoch FROM next_attempt_at - clock_timestamp())::float8 AS seconds
            FROM delivery_lanes
            JOIN unnest(%s::uuid[], %s::integer[]) AS feed (feed_id, partition)
              USING (feed_id, partition)
            """,
            ([key[0] for key in keys], [key[1] for key in keys]),
        ).fetchall()


def write(connection: Connection, progress: Sequence[Progress]) -> list[FeedKey]:
    """Write each feed's progress whose epoch still stands; return the feeds that lost theirs.

    Attempts are noted in any case: they were made.
    The cursors' rows stay locked until the transaction ends, so that nobody takes a feed over
    between the look at its epoch and the writes.
    """
    held = _held(connection, progress)
    copy_attempts(connection, (attempt for one in progress for attempt in one.attempts))
    mine = [one for one in progress if one.key in held]
    _write_cursors(connection, mine)
    _write_waiting(connection, [lane for one in mine for lane in one.waiting])
    _delete_lanes(connection, mine)
    _write_dead(connection, [letter for one in mine for letter in one.dead])
    _write_breakers(connection, mine)
    _write_ends(connection, mine)
    return [one.key for one in progress if one.key not in held]


def _held(connection: Connection, progress: Iterable[Progress]) -> set[FeedKey]:
    claims = sorted((*one.key, one.epoch) for one in progress)
    rows = connection.execute(
        """
        SELECT feed_id, partition FROM delivery_cursors
        JOIN unnest(%s::uuid[], %s::integer[], %s::bigint[]) AS claim (feed_id, partition, epoch)
          USING (feed_id, partition, epoch)
        ORDER BY feed_id, partition
        FOR UPDATE OF delivery_cursors
        """,
        tuple([claim[index] for claim in claims] for index in range(3)),
    ).fetchall()
    return {(row["feed_id"], row["partition"]) for row in rows}


def _write_cursors(connection: Connection, progress: Iterable[Progress]) -> None:
    connection.cursor().executemany(
        """
        UPDATE delivery_cursors SET position = %s, beyond = %s
        WHERE feed_id = %s AND partition = %s
        """,
        [(one.cursor, list(one.beyond), *one.key) for one in progress if one.cursor is not None],
    )


def _write_waiting(connection: Connection, waiting: Iterable[WaitingSite]) -> None:
    connection.cursor().executemany(
        """
        INSERT INTO delivery_lanes (
            feed_id, partition, originator_id, alone, version, failures, next_attempt_at,
            last_error
        )
        VALUES (%s, %s, %s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s), %s)
        ON CONFLICT (feed_id, partition, originator_id, alone)
        DO UPDATE SET version = excluded.version, failures = excluded.failures,
                      next_attempt_at = excluded.next_attempt_at,
                      last_error = excluded.last_error
        """,
        [
            (
                lane.feed_id,
                lane.partition,
                lane.originator_id,
                lane.alone,
                lane.version,
                lane.failures,
                lane.seconds,
                lane.last_error,
            )
            for lane in waiting
        ],
    )


def _delete_lanes(connection: Connection, progress: Iterable[Progress]) -> None:
    connection.cursor().executemany(
        """
        DELETE FROM delivery_lanes
        WHERE feed_id = %s AND partition = %s AND originator_id = %s AND alone = %s
        """,
        [(*one.key, *lane) for one in progress for lane in one.caught_up],
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


def _write_breakers(connection: Connection, progress: Iterable[Progress]) -> None:
    cursor = connection.cursor()
    cursor.executemany(
        "DELETE FROM delivery_breakers WHERE feed_id = %s AND partition = %s",
        [
            one.key
            for one in progress
            if one.forgotten or (one.breaker_changed and one.breaker is None)
        ],
    )
    cursor.executemany(
        """
        INSERT INTO delivery_breakers (feed_id, partition, probes, next_probe_at, last_error)
        VALUES (%s, %s, %s, clock_timestamp() + make_interval(secs => %s), %s)
        ON CONFLICT (feed_id, partition)
        DO UPDATE SET probes = excluded.probes, next_probe_at = excluded.next_probe_at,
                      last_error = excluded.last_error
        """,
        [
            (*one.key, one.breaker.probes, one.breaker.seconds, one.breaker.last_error)
            for one in progress
            if one.breaker is not None
        ],
    )


def _write_ends(connection: Connection, progress: Iterable[Progress]) -> None:
    """Pauses that receivers asked for, replays that are through, lanes of what is gone."""
    cursor = connection.cursor()
    cursor.executemany(
        "INSERT INTO delivery_pauses (subscription_id, reason) VALUES (%s, %s) "
        "ON CONFLICT DO NOTHING",
        [one.pause for one in progress if one.pause is not None],
    )
    cursor.executemany(
        "UPDATE delivery_replays SET finished_at = clock_timestamp() "
        "WHERE replay_id = %s AND partition = %s",
        [one.key for one in progress if one.finished],
    )
    cursor.executemany(
        "DELETE FROM delivery_lanes WHERE feed_id = %s AND partition = %s",
        [one.key for one in progress if one.forgotten],
    )
    cursor.executemany(
        "DELETE FROM delivery_cursors WHERE feed_id = %s AND partition = %s "
        "AND feed_id IN (SELECT replay_id FROM delivery_replays)",
        [one.key for one in progress if one.forgotten],
    )
