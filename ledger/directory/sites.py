"""Sites, partitions and the facts of this installation: one function per query."""

from __future__ import annotations

from uuid import UUID

from ledger.database import Connection
from ledger.directory.rows import Site


def partitions(connection: Connection) -> list[int]:
    """Return every partition, in order."""
    rows = connection.execute("SELECT partition FROM partitions ORDER BY partition").fetchall()
    return [row["partition"] for row in rows]


def insert_site(
    connection: Connection, site_id: UUID, partition: int, name: str | None
) -> Site | None:
    """Insert the site and return it; None where the id is taken."""
    row = connection.execute(
        """
        INSERT INTO sites (site_id, partition, name) VALUES (%s, %s, %s)
        ON CONFLICT (site_id) DO NOTHING
        RETURNING site_id, partition, name, created_at
        """,
        (site_id, partition, name),
    ).fetchone()
    return None if row is None else Site(**row)


def find_site(connection: Connection, site_id: UUID) -> Site | None:
    """Return the site, or None."""
    row = connection.execute(
        "SELECT site_id, partition, name, created_at FROM sites WHERE site_id = %s", (site_id,)
    ).fetchone()
    return None if row is None else Site(**row)


def list_sites(connection: Connection) -> list[Site]:
    """Return every site, oldest first."""
    rows = connection.execute(
        "SELECT site_id, partition, name, created_at FROM sites ORDER BY created_at, site_id"
    ).fetchall()
    return [Site(**row) for row in rows]


def fact_once(connection: Connection, name: str, value: str) -> str:
    """Record the fact unless it is there already; return the one that is there."""
    connection.execute(
        "INSERT INTO ledger_facts (name, value) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING",
        (name, value),
    )
    row = connection.execute("SELECT value FROM ledger_facts WHERE name = %s", (name,)).fetchone()
    return value if row is None else str(row["value"])
