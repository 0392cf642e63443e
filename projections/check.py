"""Projections compared with the fold of the log, event by event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ledger import eventlog, verification
from ledger.database import Database
from ledger.errors import LedgerCorrupt, UnknownTopic
from ledger.eventlog import RecordedEvent
from ledger.history.rows import RecordedChange
from ledger.verification import Refold
from projections import cursors
from projections.current import CurrentSettingsTable
from projections.history import Mark, SettingsHistoryTable

Progress = Callable[[int, int], None]
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
            fields = history.field_page(connection, partition, after, upto)
        try:
            for event in events:
                refold.take(event)
            fault = _difference(partition, events, rows) or _field_difference(rows, fields)
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
