"""How far projections are behind the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC

from ledger import eventlog, timestamps
from ledger.database import PROJECTION_LOCK, Connection, Database
from projections import cursors


@dataclass(frozen=True)
class ProjectionStatus:
    """A projection on one partition.

    ``lag_seconds`` is the age of the oldest event that it does not have yet; ``followed`` says
    whether some process keeps it up, None where it changes with the log itself.
    """

    name: str
    partition: int
    position: int
    head: int
    lag_events: int
    lag_seconds: float
    followed: bool | None


def status(
    database: Database, partitions: Iterable[int], inline: str, following: Sequence[str]
) -> list[ProjectionStatus]:
    """Every projection on every partition."""
    found = []
    for partition in partitions:
        with database.connection() as connection:
            # The cursor before the head, so that no projection is ahead of the log.
            reached = {name: cursors.read(connection, name, partition) for name in following}
            head = eventlog.head(connection, partition)
            followed = _followed(connection, partition)
            found.append(ProjectionStatus(inline, partition, head, head, 0, 0.0, None))
            for name, position in reached.items():
                seconds = _age(connection, partition, position + 1) if position < head else 0.0
                lag = head - position
                found.append(
                    ProjectionStatus(name, partition, position, head, lag, seconds, followed)
                )
    return sorted(found, key=lambda row: (row.name, row.partition))


def _followed(connection: Connection, partition: int) -> bool:
    row = connection.execute(
        """
        SELECT count(*) AS holders FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 2
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND classid = %s::bigint::oid AND objid = %s::bigint::oid
        """,
        (PROJECTION_LOCK, partition),
    ).fetchone()
    return bool(row and row["holders"])


def _age(connection: Connection, partition: int, position: int) -> float:
    [event] = eventlog.read_after(connection, partition, position - 1, 1)
    row = connection.execute("SELECT clock_timestamp() AS now").fetchone()
    assert row is not None
    stamp = timestamps.parse(event.facts["timestamp"])
    return max(float((row["now"].astimezone(UTC) - stamp).total_seconds()), 0.0)
