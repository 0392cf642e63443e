"""The event log: one ordered sequence per partition, appended under its lock, read by position."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

import orjson

from ledger import timestamps, wire
from ledger.aggregate import SettingsRecord
from ledger.canonical import leaf_hash
from ledger.database import PARTITION_LOCK, Connection, class_row, columns_of
from ledger.statement import Statement


@dataclass(frozen=True)
class RecordedEvent:
    """An event as it lies in the log."""

    partition: int
    position: int
    originator_id: UUID
    originator_version: int
    topic: str
    state: bytes
    leaf_hash: bytes

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The stored JSON, whole, with keys that this program may not know."""
        facts: dict[str, Any] = orjson.loads(self.state)
        return facts


@dataclass(frozen=True, slots=True)
class OfferedEvent:
    """An event that wants to be appended; its leaf already binds all that came before it."""

    originator_id: UUID
    originator_version: int
    topic: str
    state: bytes
    leaf_hash: bytes

    @classmethod
    def following(
        cls, previous: bytes | None, originator_id: UUID, version: int, topic: str, state: bytes
    ) -> OfferedEvent:
        """The event that follows the one whose leaf is ``previous`` (None at the first)."""
        leaf = leaf_hash(originator_id, version, previous, topic, state)
        return cls(originator_id, version, topic, state, leaf)


@dataclass(frozen=True, slots=True)
class Head:
    """The newest event of one originator."""

    originator_id: UUID
    originator_version: int
    leaf_hash: bytes


_APPEND = """
SELECT first_position, last_position, positions, clock FROM append_events(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
    $20, $21, $22, $23, $24, $25, $26, $27
)
"""

STAMP_PATIENCE = 1.0
"""Seconds from an event's stamp to the partition's lock; a later one must be stamped anew."""


def prepare_append(connection: Connection) -> Statement:
    """The statement that appends: one call of the function ``append_events``.

    It takes the parameters of ``append_parameters``, then those of ``actors.reason_parameters``
    and of ``idempotency.used_parameters``. In one transaction it takes the partition's lock,
    inserts what may be inserted and writes what belongs to it. Read its answer with
    ``appended_in``.
    """
    return Statement(connection, _APPEND)


def append_parameters(
    partition: int,
    events: Sequence[OfferedEvent],
    bases: Mapping[UUID, bytes | None],
    *,
    stamps: tuple[datetime, datetime] | None,
    actor_refs: Collection[UUID] = (),
    together: bool = False,
    current: bool = True,
) -> list[bytes | None]:
    """What is offered to the log.

    ``bases`` gives for every originator the leaf that its first offered event follows: an
    originator that has moved on since gets none of its events appended. With ``together`` one
    such originator refuses all. Offering the same bytes again is safe: an event that is already
    there is reported, not repeated. Nothing is appended whose first of ``stamps`` is older than
    STAMP_PATIENCE, or the last as much ahead, so what was sent and lost cannot arrive later.
    Nor where one of ``actor_refs``, whom the events refer to, was erased. With ``current`` each
    originator's settings are from then on what the newest of its events says.
    """
    newest = {event.originator_id: event for event in events}
    first = {event.originator_id: event.originator_version for event in reversed(events)}
    return [
        wire.integer(partition),
        wire.integer(PARTITION_LOCK),
        wire.uuids([event.originator_id for event in events]),
        wire.bigints([event.originator_version for event in events]),
        wire.texts([event.topic for event in events]),
        wire.byteas([event.state for event in events]),
        wire.byteas([event.leaf_hash for event in events]),
        wire.booleans([current and newest[event.originator_id] is event for event in events]),
        wire.uuids(list(bases)),
        wire.bigints([first[key] - 1 if leaf is not None else 0 for key, leaf in bases.items()]),
        wire.byteas(list(bases.values())),
        wire.TRUE if together else wire.FALSE,
        *((None, None) if stamps is None else map(wire.timestamp, stamps)),
        wire.double(STAMP_PATIENCE),
        wire.uuids(list(actor_refs)),
    ]


def appended_in(answer: Sequence[bytes | None]) -> tuple[list[int | None], datetime]:
    """Where the log has each offered event, None where it has not; and the clock as it was asked."""
    first, last, positions, clock = answer
    if clock is None:
        message = "append_events answered without its clock"
        raise AssertionError(message)
    if first is None or last is None:
        return wire.bigints_in(positions), wire.timestamp_in(clock)
    return [*range(wire.bigint_in(first), wire.bigint_in(last) + 1)], wire.timestamp_in(clock)


def read_heads(
    connection: Connection, partition: int, originators: Sequence[UUID]
) -> dict[UUID, Head]:
    """The newest event of each originator that has one."""
    with connection.cursor(row_factory=class_row(Head)) as cursor:
        cursor.execute(
            """
            SELECT newest.originator_id, newest.originator_version, newest.leaf_hash
            FROM unnest(%(originators)s::uuid[]) AS wanted (originator_id)
            CROSS JOIN LATERAL (
                SELECT originator_id, originator_version, leaf_hash FROM events
                WHERE partition = %(partition)s AND originator_id = wanted.originator_id
                ORDER BY originator_version DESC LIMIT 1
            ) AS newest
            """,
            {"partition": partition, "originators": list(originators)},
        )
        return {head.originator_id: head for head in cursor}


def read_after(
    connection: Connection, partition: int, position: int, limit: int
) -> list[RecordedEvent]:
    """Up to ``limit`` events behind ``position``, in the log's order."""
    return read_between(connection, partition, position, limit)


def read_between(
    connection: Connection,
    partition: int,
    position: int,
    limit: int,
    *,
    stop: int | None = None,
    topics: Sequence[str] = (),
) -> list[RecordedEvent]:
    """Up to ``limit`` events behind ``position`` and not behind ``stop``, of these topics or any."""
    # In binary: an event in hexadecimal takes twice the bytes, and longer to read.
    with connection.cursor(row_factory=columns_of(RecordedEvent), binary=True) as cursor:
        cursor.execute(
            """
            SELECT partition, position, originator_id, originator_version, topic, state, leaf_hash
            FROM events
            WHERE partition = %(partition)s AND position > %(position)s
              AND position <= coalesce(%(stop)s::bigint, 9223372036854775807)
              AND (%(topics)s::text[] IS NULL OR topic = ANY (%(topics)s::text[]))
            ORDER BY position LIMIT %(limit)s
            """,
            {
                "partition": partition,
                "position": position,
                "stop": stop,
                "topics": list(topics) or None,
                "limit": limit,
            },
        )
        return cursor.fetchall()


def read_originator(
    connection: Connection,
    partition: int,
    originator_id: UUID,
    *,
    from_version: int = 0,
    to_version: int | None = None,
    newest_first: bool = False,
    limit: int | None = None,
) -> list[RecordedEvent]:
    """An originator's events between two versions (inclusive), by version."""
    query = _NEWEST_FIRST if newest_first else _OLDEST_FIRST
    with connection.cursor(row_factory=class_row(RecordedEvent)) as cursor:
        cursor.execute(
            query,
            {
                "partition": partition,
                "originator_id": originator_id,
                "from_version": from_version,
                "to_version": to_version,
                "limit": limit,
            },
        )
        return cursor.fetchall()


_OLDEST_FIRST = """
SELECT partition, position, originator_id, originator_version, topic, state, leaf_hash
FROM events
WHERE partition = %(partition)s AND originator_id = %(originator_id)s
  AND originator_version >= %(from_version)s
  AND originator_version <= coalesce(%(to_version)s::bigint, 9223372036854775807)
ORDER BY originator_version LIMIT %(limit)s::bigint
"""
_NEWEST_FIRST = """
SELECT partition, position, originator_id, originator_version, topic, state, leaf_hash
FROM events
WHERE partition = %(partition)s AND originator_id = %(originator_id)s
  AND originator_version >= %(from_version)s
  AND originator_version <= coalesce(%(to_version)s::bigint, 9223372036854775807)
ORDER BY originator_version DESC LIMIT %(limit)s::bigint
"""


def records_at(
    connection: Connection, partition: int, places: Collection[tuple[UUID, int]]
) -> dict[tuple[UUID, int], SettingsRecord]:
    """The settings as they stood after some versions, by originator and version, where recorded."""
    rows = connection.execute(
        """
        SELECT wanted.originator_id, wanted.version, found.position, found.leaf_hash, found.state,
               first.state AS first_state
        FROM unnest(%(originators)s::uuid[], %(versions)s::bigint[])
            AS wanted (originator_id, version)
        CROSS JOIN LATERAL (
            SELECT position, leaf_hash, state FROM events
            WHERE partition = %(partition)s AND originator_id = wanted.originator_id
              AND originator_version = wanted.version
        ) AS found
        CROSS JOIN LATERAL (
            SELECT state FROM events
            WHERE partition = %(partition)s AND originator_id = wanted.originator_id
            ORDER BY originator_version LIMIT 1
        ) AS first
        """,
        {
            "partition": partition,
            "originators": [originator_id for originator_id, _ in places],
            "versions": [version for _, version in places],
        },
    )
    return {(row["originator_id"], row["version"]): _record(partition, row) for row in rows}


def _record(partition: int, row: Mapping[str, Any]) -> SettingsRecord:
    facts, first = orjson.loads(row["state"]), orjson.loads(row["first_state"])
    return SettingsRecord(
        site_id=UUID(facts["site_id"]),
        kind=facts["kind"],
        version=row["version"],
        partition=partition,
        position=row["position"],
        leaf_hash=row["leaf_hash"],
        settings=facts["settings"],
        created=timestamps.parse(first["timestamp"]),
        updated=timestamps.parse(facts["timestamp"]),
    )


def head(connection: Connection, partition: int) -> int:
    """The partition's last position, 0 where nothing was appended."""
    row = connection.execute(
        "SELECT coalesce(max(position), 0) AS head FROM events WHERE partition = %s", (partition,)
    ).fetchone()
    return int(row["head"]) if row else 0
