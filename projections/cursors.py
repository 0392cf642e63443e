"""How far each projection got on each partition; moved with the rows that it stands for."""

from __future__ import annotations

from ledger.database import Connection


def read(connection: Connection, projection: str, partition: int) -> int:
    """The last position that the projection has, 0 where it has none."""
    row = connection.execute(
        "SELECT position FROM projection_cursors WHERE projection = %s AND partition = %s",
        (projection, partition),
    ).fetchone()
    return row["position"] if row else 0


def hold(connection: Connection, projection: str, partition: int) -> int:
    """The same, with nobody else moving it until the transaction ends.

    Must be the first of its transaction's statements to look at events or rows: whoever waited
    here goes on from where the one before it got to.
    """
    while True:
        row = connection.execute(
            "SELECT position FROM projection_cursors WHERE projection = %s AND partition = %s "
            "FOR UPDATE",
            (projection, partition),
        ).fetchone()
        if row:
            position: int = row["position"]
            return position
        connection.execute(
            "INSERT INTO projection_cursors (projection, partition, position) VALUES (%s, %s, 0) "
            "ON CONFLICT DO NOTHING",
            (projection, partition),
        )


def move(connection: Connection, projection: str, partition: int, position: int) -> None:
    """Note that the projection has every event up to ``position``; the cursor is held."""
    connection.execute(
        "UPDATE projection_cursors SET position = %s WHERE projection = %s AND partition = %s",
        (position, projection, partition),
    )
