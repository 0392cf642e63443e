"""The journal of attempts: written in batches, kept for some days, read by operators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ledger.database import Connection, Database, class_row
from ledger.errors import NotFound

DAYS = 14
"""How long attempts are kept."""

RING = 32
"""Slots of the table, a day each."""

LONGEST_ERROR = 200


@dataclass(frozen=True, slots=True)
class Attempt:
    """One POST and what came of it; ``error`` is None where it was received."""

    at: datetime
    feed_id: UUID
    partition: int
    position: int
    milliseconds: float
    status: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class ListedAttempt:
    """An attempt as operators see it."""

    attempted_at: datetime
    subscription_id: UUID
    site_id: UUID
    version: int
    position: int
    replay: bool
    status: int | None
    milliseconds: float
    error: str | None


def copy_attempts(connection: Connection, attempts: Iterable[Attempt]) -> None:
    """Write attempts, all at once: a row for each feed and day."""
    batches: dict[tuple[UUID, int, int], list[Attempt]] = {}
    for one in attempts:
        slot = int(one.at.timestamp() // 86_400) % RING
        batches.setdefault((one.feed_id, one.partition, slot), []).append(one)
    if batches:
        connection.cursor().executemany(
            """
            INSERT INTO delivery_attempts (
                feed_id, partition, ring, began_at, positions, seconds, milliseconds, statuses,
                errors
            )
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s::smallint[], %s::text[])
            """,
            [(*key, *_columns(batch)) for key, batch in batches.items()],
        )


def _columns(batch: Sequence[Attempt]) -> tuple[object, ...]:
    """A batch as parallel lists; nothing for the errors where all were received."""
    began_at = min(one.at for one in batch)
    errors = [one.error and one.error[:LONGEST_ERROR] for one in batch]
    return (
        began_at,
        [one.position for one in batch],
        [(one.at - began_at).total_seconds() for one in batch],
        [one.milliseconds for one in batch],
        [one.status for one in batch],
        errors if any(errors) else None,
    )


def forget_old_attempts(connection: Connection, days: int = DAYS) -> int:
    """Empty the days that are over; how many there were."""
    row = connection.execute("SELECT forget_delivery_attempts(%s) AS emptied", (days,)).fetchone()
    assert row is not None
    emptied: int = row["emptied"]
    return emptied


def list_attempts(database: Database, of: UUID, limit: int) -> list[ListedAttempt]:
    """The newest attempts of a subscription (its replays too) or a site. Raises NotFound."""
    with (
        database.connection() as connection,
        connection.cursor(row_factory=class_row(ListedAttempt)) as cursor,
    ):
        known = connection.execute(
            "SELECT EXISTS (SELECT FROM subscriptions WHERE subscription_id = %(id)s) "
            "OR EXISTS (SELECT FROM sites WHERE site_id = %(id)s) AS known",
            {"id": of},
        ).fetchone()
        if known is None or not known["known"]:
            raise NotFound("subscription or site", of)
        return cursor.execute(
            """
            SELECT batch.began_at + make_interval(secs => attempt.seconds) AS attempted_at,
                   site.site_id, event.originator_version AS version,
                   coalesce(replay.subscription_id, batch.feed_id) AS subscription_id,
                   attempt.position, replay.replay_id IS NOT NULL AS replay,
                   attempt.status, attempt.milliseconds, attempt.error
            FROM delivery_attempts AS batch
            CROSS JOIN LATERAL unnest(
                batch.positions, batch.seconds, batch.milliseconds, batch.statuses, batch.errors
            ) AS attempt (position, seconds, milliseconds, status, error)
            JOIN events AS event
              ON (event.partition, event.position) = (batch.partition, attempt.position)
            JOIN current_settings AS site
              ON (site.partition, site.originator_id) = (event.partition, event.originator_id)
            LEFT JOIN delivery_replays AS replay
              ON (replay.replay_id, replay.partition) = (batch.feed_id, batch.partition)
            WHERE site.site_id = %(id)s
               OR coalesce(replay.subscription_id, batch.feed_id) = %(id)s
            ORDER BY attempted_at DESC, attempt.position DESC
            LIMIT %(limit)s
            """,
            {"id": of, "limit": limit},
        ).fetchall()
