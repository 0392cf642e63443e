"""Installations of apps on sites: one function per query."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from ledger.database import Connection
from ledger.directory.rows import Installation, Site


def insert_installation(
    connection: Connection, instance_id: UUID, app_id: UUID, site: Site, after_position: int
) -> Installation | None:
    """Insert the installation and return it; None where the app is on the site already."""
    row = connection.execute(
        """
        INSERT INTO installations (instance_id, app_id, site_id, partition, after_position)
        VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (app_id, site_id) WHERE uninstalled_at IS NULL DO NOTHING
        RETURNING instance_id, app_id, site_id, partition, after_position, until_position,
                  installed_at, uninstalled_at
        """,
        (instance_id, app_id, site.site_id, site.partition, after_position),
    ).fetchone()
    return None if row is None else Installation(**row)


def find_installation(connection: Connection, instance_id: UUID) -> Installation | None:
    """Return the installation, ended or not, or None."""
    row = connection.execute(
        """
        SELECT instance_id, app_id, site_id, partition, after_position, until_position,
               installed_at, uninstalled_at
        FROM installations WHERE instance_id = %s
        """,
        (instance_id,),
    ).fetchone()
    return None if row is None else Installation(**row)


def select_ended(connection: Connection, within: timedelta) -> frozenset[UUID]:
    """Return the instances that were uninstalled within this time."""
    rows = connection.execute(
        "SELECT instance_id FROM installations WHERE uninstalled_at > clock_timestamp() - %s",
        (within,),
    ).fetchall()
    return frozenset(row["instance_id"] for row in rows)


def end_installation(connection: Connection, instance_id: UUID, until_position: int) -> bool:
    """End the installation at a position; False where it had ended already."""
    cursor = connection.execute(
        """
        UPDATE installations SET until_position = %s, uninstalled_at = clock_timestamp()
        WHERE instance_id = %s AND uninstalled_at IS NULL
        """,
        (until_position, instance_id),
    )
    return cursor.rowcount == 1


def list_installations(
    connection: Connection, app_id: UUID | None, site_id: UUID | None, *, ended: bool
) -> list[Installation]:
    """Return installations, oldest first, narrowed to an app or a site; ``ended`` includes those."""
    rows = connection.execute(
        """
        SELECT instance_id, app_id, site_id, partition, after_position, until_position,
               installed_at, uninstalled_at
        FROM installations
        WHERE (%(app_id)s::uuid IS NULL OR app_id = %(app_id)s)
          AND (%(site_id)s::uuid IS NULL OR site_id = %(site_id)s)
          AND (%(ended)s OR uninstalled_at IS NULL)
        ORDER BY installed_at, instance_id
        """,
        {"app_id": app_id, "site_id": site_id, "ended": ended},
    ).fetchall()
    return [Installation(**row) for row in rows]
