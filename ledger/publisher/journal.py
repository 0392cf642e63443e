"""The journal of attempts: written by COPY, kept for some days, read by operators."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
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
    """Write attempts, all at once."""
    with connection.cursor().copy(
        "COPY delivery_attempts (attempted_at, feed_id, position, partition, milliseconds, ring, "
        "status, error) FROM STDIN"
    ) as copy:
        for one in attempts:
            slot = int(one.at.astimezone(UTC).timestamp() // 86_400) % RING
            error = None if one.error is None else one.error[:LONGEST_ERROR]
            row = (one.at, one.feed_id, one.position, one.partition, one.milliseconds, slot)
            copy.write_row((*row, one.status, error))


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
            SELECT attempt.attempted_at, site.site_id, event.originator_version AS version,
                   coalesce(replay.subscription_id, attempt.feed_id) AS subscription_id,
                   attempt.position, replay.replay_id IS NOT NULL AS replay,
                   attempt.status, attempt.milliseconds, attempt.error
            FROM delivery_attempts AS attempt
            JOIN events AS event USING (partition, position)
            JOIN current_settings AS site
              ON (site.partition, site.originator_id) = (event.partition, event.originator_id)
            LEFT JOIN delivery_replays AS replay
              ON (replay.replay_id, replay.partition) = (attempt.feed_id, attempt.partition)
            WHERE site.site_id = %(id)s
               OR coalesce(replay.subscription_id, attempt.feed_id) = %(id)s
            ORDER BY attempt.attempted_at DESC, attempt.position DESC
            LIMIT %(limit)s
            """,
            {"id": of, "limit": limit},
        ).fetchall()
