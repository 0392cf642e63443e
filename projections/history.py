"""The history as auditors ask for it: one row per event, one per field that an event touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger.database import Connection, Database, class_row
from ledger.history.rows import RecordedChange
from ledger.history.table import AuditQuestion, SiteQuestion
from projections import follow, search

LAST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class HistoryRow(RecordedChange):
    """A change, and what finds those of an identity on all sites: see ``actors.identity``."""

    actor_identity: UUID | None
    on_behalf_of_identity: UUID | None


class SettingsHistoryTable:
    """Owner of ``settings_history`` and ``settings_history_fields``. Follows the log."""

    name = "settings_history"
    tables = ("settings_history", "settings_history_fields")

    def __init__(self, database: Database) -> None:
        self._database = database

    def apply(self, connection: Connection, partition: int, after: int, upto: int) -> None:
        """Add a row per event in (after, upto], and one per field that it touched."""
        bounds = {"partition": partition, "after": after, "upto": upto}
        connection.execute(TAKE_ON.encode(), bounds)

    def apply_fresh(self, connection: Connection, partition: int, after: int, upto: int) -> None:
        """The same, into the tables that a rebuild fills."""
        bounds = {"partition": partition, "after": after, "upto": upto}
        connection.execute(TAKE_ON_FRESH.encode(), bounds)

    def catch_up(self, partition: int, position: int, timeout: float) -> None:
        """See HistoryTable."""
        follow.catch_up(self._database, self, partition, position, timeout)

    def page(
        self, connection: Connection, partition: int, after: int, limit: int
    ) -> list[RecordedChange]:
        """Up to ``limit`` rows behind ``after``, by position."""
        return _rows(connection, PAGE, partition=partition, after=after, limit=limit)

    def standing(
        self,
        connection: Connection,
        partition: int,
        originator_id: UUID,
        *,
        version: int | None = None,
        time: datetime | None = None,
        position: int | None = None,
    ) -> RecordedChange | None:
        """See HistoryTable."""
        found = _rows(
            connection,
            STANDING_BY_VERSION if time is None else STANDING_BY_TIME,
            partition=partition,
            originator_id=originator_id,
            version=LAST if version is None else version,
            time=time,
            position=LAST if position is None else position,
        )
        return found[0] if found else None

    def first_since(
        self, connection: Connection, partition: int, originator_id: UUID, time: datetime
    ) -> int | None:
        """See HistoryTable."""
        row = connection.execute(
            """
            SELECT version FROM settings_history
            WHERE partition = %s AND originator_id = %s AND recorded_at >= %s
            ORDER BY recorded_at, position LIMIT 1
            """,
            (partition, originator_id, time),
        ).fetchone()
        return row["version"] if row else None

    def site_changes(self, connection: Connection, question: SiteQuestion) -> list[RecordedChange]:
        """See HistoryTable."""
        query, values = search.site_query(question)
        return _rows(connection, query, **values)

    def last_changes(
        self,
        connection: Connection,
        partition: int,
        originator_id: UUID,
        version: int,
        fields: Sequence[str],
    ) -> dict[str, RecordedChange]:
        """See HistoryTable."""
        wanted = {"partition": partition, "originator_id": originator_id, "version": version}
        rows = connection.execute(LAST_VERSIONS, {**wanted, "fields": list(fields)}).fetchall()
        versions = sorted({row["version"] for row in rows})
        found = _rows(connection, BY_VERSIONS, **wanted, versions=versions)
        by_version = {change.version: change for change in found}
        return {row["field"]: by_version[row["version"]] for row in rows}

    def search(self, connection: Connection, question: AuditQuestion) -> list[RecordedChange]:
        """See HistoryTable."""
        # A question with many keys looks dear to the planner and takes milliseconds: compiling
        # it would take longer.
        connection.execute("SET LOCAL jit = off")
        query, values = search.audit_query(question)
        return _rows(connection, query, **values)

    def positions(
        self,
        connection: Connection,
        partition: int,
        since: datetime | None,
        until: datetime | None,
    ) -> tuple[int, int] | None:
        """See HistoryTable."""
        row = connection.execute(
            """
            SELECT min(position) AS first, max(position) AS last FROM settings_history
            WHERE partition = %(partition)s
              AND recorded_at >= coalesce(%(since)s::timestamptz, '-infinity')
              AND recorded_at <= coalesce(%(until)s::timestamptz, 'infinity')
            """,
            {"partition": partition, "since": since, "until": until},
        ).fetchone()
        return None if row is None or row["first"] is None else (row["first"], row["last"])

    def has_field(self, connection: Connection, partition: int, field: str) -> bool:
        """See HistoryTable."""
        row = connection.execute(
            "SELECT FROM settings_history_fields WHERE partition = %s AND field = %s LIMIT 1",
            (partition, field),
        ).fetchone()
        return row is not None


# The rows are made where the events are: to carry them to this program and back would cost
# three times as much. What a row must say is `RecordedChange.of`, and a check compares the two.
TAKE_ON = """
WITH RECURSIVE event AS (
    SELECT partition, position, originator_id, originator_version, topic,
           convert_from(state, 'UTF8')::jsonb AS facts
    FROM events
    WHERE partition = %(partition)s AND position > %(after)s AND position <= %(upto)s
), value AS (
    -- A creation's changes come from nothing: one for each value that stands in no other.
    SELECT event.position, entry.key AS path, entry.value
    FROM event CROSS JOIN LATERAL jsonb_each(event.facts -> 'settings') AS entry
    WHERE event.topic = 'ledger:SettingsCreated'
    UNION ALL
    SELECT value.position, value.path || '.' || entry.key, entry.value
    FROM value CROSS JOIN LATERAL jsonb_each(value.value) AS entry
    WHERE jsonb_typeof(value.value) = 'object'
), created AS (
    SELECT position, jsonb_object_agg(path, jsonb_build_object('to', value.value)) AS changes
    FROM value
    WHERE jsonb_typeof(value.value) <> 'object' OR value.value = '{}'
    GROUP BY position
), change AS (
    INSERT INTO settings_history
    SELECT event.partition, event.position, event.originator_id, event.originator_version,
        (facts ->> 'site_id')::uuid, facts ->> 'kind', (facts ->> 'timestamp')::timestamptz,
        (facts ->> 'event_id')::uuid,
        facts -> 'actor' ->> 'type', (facts -> 'actor' ->> 'ref')::uuid,
        facts -> 'on_behalf_of' ->> 'type', (facts -> 'on_behalf_of' ->> 'ref')::uuid,
        (facts -> 'reason' ->> 'ref')::uuid, facts ->> 'origin',
        facts -> 'via' ->> 'channel', facts -> 'via' ->> 'credential',
        (facts -> 'via' -> 'asserted')::boolean, facts ->> 'request_id',
        touched.fields, told.changes, facts -> 'settings',
        (SELECT identity FROM actors WHERE actors.partition = event.partition
            AND actors.ref = (facts -> 'actor' ->> 'ref')::uuid),
        -- Few act for somebody; to look for nobody's number would cost the others.
        CASE WHEN facts ? 'on_behalf_of' THEN (
            SELECT identity FROM actors WHERE actors.partition = event.partition
            AND actors.ref = (facts -> 'on_behalf_of' ->> 'ref')::uuid) END
    FROM event LEFT JOIN created USING (position)
    CROSS JOIN LATERAL (
        SELECT CASE event.topic
            WHEN 'ledger:SettingsCreated' THEN coalesce(created.changes, '{}')
            ELSE facts -> 'changes' END AS changes
    ) AS told
    CROSS JOIN LATERAL (
        SELECT ARRAY (
            SELECT DISTINCT array_to_string(names[:length], '.') COLLATE "C"
            FROM jsonb_object_keys(told.changes) AS path
            CROSS JOIN LATERAL string_to_array(path, '.') AS names
            CROSS JOIN LATERAL generate_series(1, cardinality(names)) AS length
            ORDER BY 1
        ) AS fields
    ) AS touched
    RETURNING partition, originator_id, fields, version, position, recorded_at, changes
)
INSERT INTO settings_history_fields
SELECT partition, originator_id, field, version, position, recorded_at,
    jsonb_hash_extended(changes -> field -> 'to', 0)
FROM change CROSS JOIN LATERAL unnest(fields) AS field
"""
TAKE_ON_FRESH = TAKE_ON.replace(
    "INSERT INTO settings_history\n", "INSERT INTO settings_history_fresh\n"
).replace("INSERT INTO settings_history_fields\n", "INSERT INTO settings_history_fields_fresh\n")

PAGE = """
SELECT * FROM settings_history
WHERE partition = %(partition)s AND position > %(after)s
ORDER BY position LIMIT %(limit)s
"""
STANDING_BY_VERSION = """
SELECT * FROM settings_history
WHERE partition = %(partition)s AND originator_id = %(originator_id)s
  AND version <= %(version)s AND position <= %(position)s
ORDER BY version DESC LIMIT 1
"""
STANDING_BY_TIME = """
SELECT * FROM settings_history
WHERE partition = %(partition)s AND originator_id = %(originator_id)s
  AND recorded_at <= %(time)s AND version <= %(version)s AND position <= %(position)s
ORDER BY recorded_at DESC, position DESC LIMIT 1
"""
LAST_VERSIONS = """
SELECT wanted.field, last.version
FROM unnest(%(fields)s::text[]) AS wanted (field)
CROSS JOIN LATERAL (
    SELECT version FROM settings_history_fields
    WHERE partition = %(partition)s AND originator_id = %(originator_id)s
      AND field = wanted.field AND version <= %(version)s
    ORDER BY version DESC LIMIT 1
) AS last
"""
BY_VERSIONS = """
SELECT * FROM settings_history
WHERE partition = %(partition)s AND originator_id = %(originator_id)s
  AND version = ANY (%(versions)s::bigint[])
"""


def _rows(connection: Connection, query: str, **values: Any) -> list[RecordedChange]:
    with connection.cursor(row_factory=class_row(HistoryRow)) as cursor:
        return list(cursor.execute(query.encode(), values))
