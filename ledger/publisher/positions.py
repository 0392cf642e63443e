"""Positions as operators name them: where a feed is put, and what a replay goes over."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from ledger import timestamps
from ledger.database import Connection, lock_partition_shared
from ledger.errors import InvalidInput, NotFound
from ledger.eventlog import head

STAMPS_OUT_OF_ORDER = timedelta(seconds=2)
"""How far the stamps of neighbouring positions may be out of order (a stamp is at most 1 s old)."""


def insert_replay(
    connection: Connection,
    replay_id: UUID,
    partition: int,
    subscription_id: UUID,
    after: int,
    until: int,
    sites: Collection[UUID] | None,
) -> None:
    """Begin a replay of (after, until] on one partition, of all sites or of some."""
    connection.execute(
        """
        INSERT INTO delivery_replays (
            replay_id, partition, subscription_id, after_position, until_position, sites
        )
        VALUES (%s, %s, %s, %s, %s, %s)
        """,
        (
            replay_id,
            partition,
            subscription_id,
            after,
            until,
            None if sites is None else list(sites),
        ),
    )


def move(connection: Connection, feed_id: UUID, partition: int, position: int) -> None:
    """Put the cursor somewhere else; whoever publishes the feed has lost it by that."""
    connection.execute(
        """
        INSERT INTO delivery_cursors (feed_id, partition, position, epoch) VALUES (%s, %s, %s, 1)
        ON CONFLICT (feed_id, partition)
        DO UPDATE SET position = excluded.position, beyond = '{}',
                      epoch = delivery_cursors.epoch + 1
        """,
        (feed_id, partition, position),
    )
    connection.execute(
        "DELETE FROM delivery_lanes WHERE feed_id = %s AND partition = %s", (feed_id, partition)
    )


def partitions(connection: Connection) -> Sequence[int]:
    """Every partition, in order."""
    rows = connection.execute("SELECT partition FROM partitions ORDER BY partition").fetchall()
    return [row["partition"] for row in rows]


def check_exists(connection: Connection, subscription_id: UUID) -> None:
    """Raise NotFound for a subscription that is not there, or not any more."""
    row = connection.execute(
        "SELECT subscription_id FROM subscriptions WHERE subscription_id = %s "
        "AND deleted_at IS NULL",
        (subscription_id,),
    ).fetchone()
    if row is None:
        raise NotFound("subscription", subscription_id)


def check_position(connection: Connection, partition: int, position: int) -> None:
    """Raise NotFound or InvalidInput unless the log has, or will next have, this position."""
    if partition not in partitions(connection):
        raise NotFound("partition", partition)
    lock_partition_shared(connection, partition)
    last = head(connection, partition)
    if not 1 <= position <= last + 1:
        raise InvalidInput("position", f"expected 1 to {last + 1} in partition {partition}")


def last_before(connection: Connection, partition: int, last: int, at: datetime) -> int:
    """A position at or before which everything is older than ``at``, by bisection.

    Neighbours may be out of order by a moment, so the answer may be a few events too early.
    """
    sought, low, high = timestamps.stored(at - STAMPS_OUT_OF_ORDER), 0, last
    while low < high:
        middle = (low + high + 1) // 2
        row = connection.execute(
            "SELECT state FROM events WHERE partition = %s AND position = %s", (partition, middle)
        ).fetchone()
        assert row is not None
        if json.loads(row["state"])["timestamp"] < sought:
            low = middle
        else:
            high = middle - 1
    return low
