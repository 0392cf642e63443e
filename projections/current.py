"""The settings as they stand, one row per site and kind, changed in the append's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

from ledger.aggregate import SettingsRecord, originator_id
from ledger.database import Connection, Cursor, Jsonb


class CurrentSettingsTable:
    """Owner of ``current_settings``. An inline projection: a read after a write sees it."""

    name = "current_settings"

    def select(self, connection: Connection, partition: int, originators: Sequence[UUID]) -> Cursor:
        """Rows of the originators that have settings; read them with ``records_in``."""
        return connection.execute(
            """
            SELECT originator_id, site_id, kind, version, partition, position, leaf_hash,
                   settings, created_at, updated_at
            FROM unnest(%(originators)s::uuid[]) AS wanted (key)
            CROSS JOIN LATERAL (
                SELECT * FROM current_settings
                WHERE partition = %(partition)s AND originator_id = wanted.key
                LIMIT 1
            ) AS standing
            """,
            {"partition": partition, "originators": list(originators)},
        )

    def records_in(self, rows: Cursor) -> dict[UUID, SettingsRecord]:
        """What ``select`` found."""
        return {row["originator_id"]: _record(row) for row in rows}

    def apply(
        self, connection: Connection, partition: int, records: Sequence[SettingsRecord]
    ) -> None:
        """Take on each record whose event, named by version and leaf, is in the log by now.

        The partition's lock must be held. A row never goes back to an earlier version, so the
        same records may be applied again.
        """
        connection.execute(_APPLY, {"partition": partition, **_columns(records)})

    def page(
        self, connection: Connection, partition: int, after: UUID | None, limit: int
    ) -> dict[UUID, SettingsRecord]:
        """Up to ``limit`` rows behind the originator ``after``, by originator."""
        rows = connection.execute(
            """
            SELECT originator_id, site_id, kind, version, partition, position, leaf_hash,
                   settings, created_at, updated_at
            FROM current_settings
            WHERE partition = %s AND originator_id > %s
            ORDER BY originator_id LIMIT %s
            """,
            (partition, after or UUID(int=0), limit),
        )
        return self.records_in(rows)


_APPLY = """
INSERT INTO current_settings AS standing (
    partition, originator_id, site_id, kind, version, position, leaf_hash, settings,
    created_at, updated_at
)
SELECT %(partition)s, new.originator_id, new.site_id, new.kind, new.version,
       recorded.position, new.leaf_hash, new.settings, new.created_at, new.updated_at
FROM unnest(
    %(sites)b::uuid[], %(kinds)b::text[], %(versions)b::bigint[], %(leaves)b::bytea[],
    %(settings)b::jsonb[], %(created)b::timestamptz[], %(updated)b::timestamptz[],
    %(originators)b::uuid[]
) AS new (
    site_id, kind, version, leaf_hash, settings, created_at, updated_at, originator_id
)
CROSS JOIN LATERAL (
    SELECT position, leaf_hash FROM events
    WHERE partition = %(partition)s AND originator_id = new.originator_id
      AND originator_version = new.version
    LIMIT 1
) AS recorded
WHERE recorded.leaf_hash = new.leaf_hash
ON CONFLICT (partition, originator_id) DO UPDATE
SET version = excluded.version, position = excluded.position, leaf_hash = excluded.leaf_hash,
    settings = excluded.settings, updated_at = excluded.updated_at
WHERE standing.version < excluded.version
"""


def _columns(records: Sequence[SettingsRecord]) -> dict[str, list[Any]]:
    return {
        "sites": [record.site_id for record in records],
        "kinds": [record.kind for record in records],
        "versions": [record.version for record in records],
        "leaves": [record.leaf_hash for record in records],
        "settings": [Jsonb(record.settings) for record in records],
        "created": [record.created for record in records],
        "updated": [record.updated for record in records],
        "originators": [originator_id(record.site_id, record.kind) for record in records],
    }


def _record(row: dict[str, Any]) -> SettingsRecord:
    return SettingsRecord(
        site_id=row["site_id"],
        kind=row["kind"],
        version=row["version"],
        partition=row["partition"],
        position=row["position"],
        leaf_hash=row["leaf_hash"],
        settings=row["settings"],
        created=row["created_at"].astimezone(UTC),
        updated=row["updated_at"].astimezone(UTC),
    )
