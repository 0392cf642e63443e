"""Projections compared with the fold of the log, event by event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ledger import eventlog, verification
from ledger.database import Connection, Database
from ledger.errors import LedgerCorrupt, UnknownTopic
from ledger.eventlog import RecordedEvent
from ledger.history.rows import RecordedChange
from ledger.verification import Refold
from projections import cursors
from projections.current import CurrentSettingsTable
from projections.history import SettingsHistoryTable

Progress = Callable[[int, int], None]
Mark = tuple[int, UUID, int, datetime, str]
"""(position, originator, version, time, field): a field that an event touched."""
PAGE = 1000


@dataclass(frozen=True)
class Checked:
    """A projection on one partition: how many events were compared, and the first difference."""

    name: str
    partition: int
    events: int
    fault: str | None = None


def check(
    database: Database,
    partitions: Iterable[int],
    current: CurrentSettingsTable,
    history: SettingsHistoryTable,
    progress: Progress | None = None,
) -> list[Checked]:
    """Compare both projections with the log, partition by partition.

    Of what follows the log, what it has when the check begins. Rows and events are never
    altered, so this needs no snapshot and holds nobody up.
    """
    found = []
    for partition in partitions:
        report = verification.verify(database, [partition], current)
        found.append(Checked(current.name, partition, report.events, report.fault))
        found.append(_check_history(database, partition, history, progress))
    return found


def _check_history(
    database: Database, partition: int, history: SettingsHistoryTable, progress: Progress | None
) -> Checked:
    with database.connection() as connection:
        reached = cursors.read(connection, history.name, partition)
    refold = Refold(partition)
    fault = None
    while fault is None and refold.position < reached:
        after = refold.position
        upto = min(after + PAGE, reached)
        with database.connection() as connection:
            events = eventlog.read_between(connection, partition, after, PAGE, stop=upto)
            rows = history.page(connection, partition, after, len(events))
            marks = _read_marks(connection, partition, after, upto)
            stray = _first_stray(connection, partition, after, upto)
        try:
            for event in events:
                refold.take(event)
            fault = _difference(partition, events, rows) or _field_difference(rows, marks)
            if fault is None and stray is not None:
                fault = f"position {stray[0]}: {stray[1]} is not what it is derived from"
        except (LedgerCorrupt, UnknownTopic) as error:
            fault = f"the log itself: {error}"
        if progress is not None:
            progress(refold.position, reached)
        if not events:
            fault = f"the cursor stands at {reached}, where the log ends at {refold.position}"
    if fault is None:
        fault = _beyond(database, partition, history, reached)
    return Checked(history.name, partition, refold.position, fault)


def _difference(
    partition: int, events: Sequence[RecordedEvent], rows: Sequence[RecordedChange]
) -> str | None:
    by_position = {row.position: row for row in rows}
    for event in events:
        row = by_position.get(event.position)
        place = f"partition {partition}, position {event.position}"
        if row is None:
            return f"{place}: there is no row"
        wrong = RecordedChange.of(event).difference(row)
        if wrong is not None:
            return f"{place}: {wrong} is not what the log gives"
    return None


def _field_difference(rows: Sequence[RecordedChange], marks: set[Mark]) -> str | None:
    """The rows are right, so their fields are what must be marked."""
    right = {
        (row.position, row.originator_id, row.version, row.recorded_at, field)
        for row in rows
        for field in row.fields
    }
    for position, *_, field in sorted(right ^ marks, key=lambda mark: (mark[0], mark[-1])):
        return f"position {position}: the mark of the field {field} is not what the log gives"
    return None


def _beyond(
    database: Database, partition: int, history: SettingsHistoryTable, reached: int
) -> str | None:
    """Rows behind the cursor that the log did not give; those of a follower move the cursor."""
    with database.connection() as connection:
        rows = history.page(connection, partition, reached, 1)
        now = cursors.read(connection, history.name, partition)
    if rows and rows[0].position > now:
        return f"partition {partition}, position {rows[0].position}: a row beyond the cursor"
    return None


def _read_marks(connection: Connection, partition: int, after: int, upto: int) -> set[Mark]:
    """Each field that is marked as touched in (after, upto]."""
    rows = connection.execute(
        """
        SELECT field.position, field.originator_id, field.version, field.recorded_at, field.field
        FROM settings_history AS change JOIN settings_history_fields AS field
          ON field.partition = change.partition
         AND field.originator_id = change.originator_id AND field.version = change.version
        WHERE change.partition = %s AND change.position > %s AND change.position <= %s
        """,
        (partition, after, upto),
    )
    return {
        (row["position"], row["originator_id"], row["version"], row["recorded_at"], row["field"])
        for row in rows
    }


def _first_stray(
    connection: Connection, partition: int, after: int, upto: int
) -> tuple[int, str] | None:
    """(position, what) of the first in (after, upto] that is not what it is derived from.

    Of rows that are right otherwise: the identities come from ``actors``, the hashes of values
    from the row itself.
    """
    row = connection.execute(
        _FIRST_STRAY.encode(), {"partition": partition, "after": after, "upto": upto}
    ).fetchone()
    return None if row is None else (row["position"], row["what"])


_FIRST_STRAY = """
SELECT position, what FROM (
    SELECT change.position, 'the identity' AS what
    FROM settings_history AS change
    LEFT JOIN actors AS acting
        ON acting.partition = change.partition AND acting.ref = change.actor_ref
    LEFT JOIN actors AS principal
        ON principal.partition = change.partition AND principal.ref = change.on_behalf_of_ref
    WHERE change.partition = %(partition)s
      AND change.position > %(after)s AND change.position <= %(upto)s
      AND (change.actor_identity IS DISTINCT FROM acting.identity
           OR change.on_behalf_of_identity IS DISTINCT FROM principal.identity)
    UNION ALL
    SELECT change.position, 'the hash of the value of ' || mark.field
    FROM settings_history AS change JOIN settings_history_fields AS mark
      ON mark.partition = change.partition
     AND mark.originator_id = change.originator_id AND mark.version = change.version
    WHERE change.partition = %(partition)s
      AND change.position > %(after)s AND change.position <= %(upto)s
      AND mark.value_hash IS DISTINCT FROM
          jsonb_hash_extended(change.changes -> mark.field -> 'to', 0)
) AS stray
ORDER BY position, what LIMIT 1
"""
