"""Subscriptions and the spans of positions that they receive: one function per query."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from ledger.database import Connection
from ledger.directory.certificates import list_certificates
from ledger.directory.rows import Span, Subscription


def insert_subscription(
    connection: Connection, subscription_id: UUID, app_id: UUID, event_type: str, url: str
) -> None:
    """Insert the subscription, without spans."""
    connection.execute(
        """
        INSERT INTO subscriptions (subscription_id, app_id, event_type, url)
        VALUES (%s, %s, %s, %s)
        """,
        (subscription_id, app_id, event_type, url),
    )


def insert_span(
    connection: Connection, subscription_id: UUID, partition: int, after_position: int
) -> None:
    """Begin the subscription on one partition after a position."""
    connection.execute(
        """
        INSERT INTO subscription_spans (subscription_id, partition, after_position)
        VALUES (%s, %s, %s)
        """,
        (subscription_id, partition, after_position),
    )


def end_span(
    connection: Connection, subscription_id: UUID, partition: int, until_position: int
) -> None:
    """End the subscription on one partition; one added since it began gets its span here."""
    connection.execute(
        """
        INSERT INTO subscription_spans (subscription_id, partition, after_position, until_position)
        VALUES (%s, %s, 0, %s)
        ON CONFLICT (subscription_id, partition)
        DO UPDATE SET until_position = excluded.until_position
        """,
        (subscription_id, partition, until_position),
    )


def move_subscription(connection: Connection, subscription_id: UUID, url: str) -> None:
    """Give the subscription another URL."""
    connection.execute(
        "UPDATE subscriptions SET url = %s WHERE subscription_id = %s", (url, subscription_id)
    )


def end_subscription(connection: Connection, subscription_id: UUID) -> bool:
    """Mark as deleted; False where there is no such subscription, or not any more."""
    cursor = connection.execute(
        """
        UPDATE subscriptions SET deleted_at = clock_timestamp()
        WHERE subscription_id = %s AND deleted_at IS NULL
        """,
        (subscription_id,),
    )
    return cursor.rowcount == 1


def list_subscriptions(
    connection: Connection, subscription_id: UUID | None = None, *, deleted: bool = False
) -> list[Subscription]:
    """Return subscriptions with their spans, oldest first; ``deleted`` includes those."""
    rows = connection.execute(
        """
        SELECT subscription_id, app_id, event_type, url, created_at, deleted_at
        FROM subscriptions
        WHERE (%(id)s::uuid IS NULL OR subscription_id = %(id)s)
          AND (%(deleted)s OR deleted_at IS NULL)
        ORDER BY created_at, subscription_id
        """,
        {"id": subscription_id, "deleted": deleted},
    ).fetchall()
    ids = [row["subscription_id"] for row in rows]
    spans, certificates = _spans(connection, ids), list_certificates(connection, ids)
    return [
        Subscription(
            **row,
            spans=spans.get(row["subscription_id"], {}),
            client_certificate=certificates.get(row["subscription_id"]),
        )
        for row in rows
    ]


def _spans(connection: Connection, subscription_ids: list[UUID]) -> Mapping[UUID, dict[int, Span]]:
    rows = connection.execute(
        """
        SELECT subscription_id, partition, after_position, until_position
        FROM subscription_spans WHERE subscription_id = ANY(%s)
        """,
        (subscription_ids,),
    ).fetchall()
    spans: dict[UUID, dict[int, Span]] = {}
    for row in rows:
        span = Span(row["after_position"], row["until_position"])
        spans.setdefault(row["subscription_id"], {})[row["partition"]] = span
    return spans
