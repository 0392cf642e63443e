"""The settings as they stand, one row per site and kind, changed in the append's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

from ledger import wire
from ledger.aggregate import SettingsRecord, originator_id
from ledger.database import Connection, Cursor


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
            -- From behind: the newest version of a row is behind those that some snapshot keeps.
            CROSS JOIN LATERAL (
                SELECT * FROM current_settings
                WHERE partition = %(partition)s
                  AND originator_id >= wanted.key AND originator_id <= wanted.key
                ORDER BY originator_id DESC LIMIT 1
            ) AS standing
            """,
            {"partition": partition, "originators": list(originators)},
        )

    def records_in(self, rows: Cursor) -> dict[UUID, SettingsRecord]:
        """What ``select`` found."""
        return {row["originator_id"]: _record(row) for row in rows}

    def looked_up(
        self,
        partition: int,
        wanted: Sequence[tuple[UUID, str]],
        columns: Sequence[bytes | None],
    ) -> dict[UUID, SettingsRecord]:
        """Those of the wanted (site, kind) that have settings, by originator.

        ``columns`` as ``batch.read_surroundings`` reads them: places among the wanted, versions,
        positions, leaves, settings, times of creation and of the last change.
        """
        places, versions, positions, leaves, settings, created, updated = columns
        found = zip(
            wire.numbers_in(places),
            wire.numbers_in(versions),
            wire.numbers_in(positions),
            wire.byteas_in(leaves),
            wire.jsonbs_in(settings),
            wire.timestamps_in(created),
            wire.timestamps_in(updated),
            strict=True,
        )
        records = {}
        for place, version, position, *rest in found:
            site_id, kind = wanted[place - 1]
            records[originator_id(site_id, kind)] = SettingsRecord(
                site_id, kind, version, partition, position, *rest
            )
        return records

    def apply(
        self, connection: Connection, partition: int, records: Sequence[SettingsRecord]
    ) -> None:
        """Take on what the event of each record says, if it is in the log: named by version and leaf.

        Every append does so for what it appends. The partition's lock must be held. A row never
        goes back to an earlier version, so the same records may be applied again.
        """
        connection.execute(
            """
            SELECT apply_current_settings(
                %(partition)s, %(originators)s::uuid[], %(versions)s::bigint[], %(leaves)s::bytea[]
            )
            """,
            {
                "partition": partition,
                "originators": [originator_id(one.site_id, one.kind) for one in records],
                "versions": [one.version for one in records],
                "leaves": [one.leaf_hash for one in records],
            },
        )

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
