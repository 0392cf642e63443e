"""What a batch reads before it decides, and what it offers to the log afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from ledger import actors, eventlog, idempotency
from ledger.actors import ReasonNote
from ledger.aggregate import SettingsRecord
from ledger.commands import SettingsCommand
from ledger.database import Connection, Cursor, lock_partition
from ledger.eventlog import OfferedEvent
from ledger.folding import SiteFold, Surroundings
from ledger.idempotency import KeyAddress, UsedKey

Positions = dict[tuple[UUID, int], int]
"""Where the log has an event: by originator and version."""


class CurrentSettings(Protocol):
    """The inline projection: the settings as they stand, changed within the append."""

    def select(self, connection: Connection, partition: int, originators: Sequence[UUID]) -> Cursor:
        """Rows of the originators that have settings; read them with ``records_in``."""

    def records_in(self, rows: Cursor) -> dict[UUID, SettingsRecord]:
        """What ``select`` found."""

    def apply(
        self, connection: Connection, partition: int, records: Sequence[SettingsRecord]
    ) -> None:
        """Take on each record whose event is in the log by now; the lock is held."""


def read_surroundings(
    connection: Connection,
    partition: int,
    current: CurrentSettings,
    commands: Sequence[SettingsCommand],
) -> Surroundings:
    """All that the commands' decisions rest on, in one round trip.

    A second one makes those known who act on a site for the first time.
    """
    originators = list({command.originator_id for command in commands})
    keys = [address for command in commands if (address := command.key_address)]
    wanted = list({pair for command in commands for pair in command.identities})
    with connection.pipeline():
        clock = connection.execute("SELECT clock_timestamp() AS now")
        # Settings before keys: a key that is used between the two moves its site, and the
        # append notices; the other way round the request would be recorded twice.
        rows = current.select(connection, partition, originators)
        used = idempotency.select_used(connection, partition, keys) if keys else None
        known = actors.select_tokens(connection, partition, wanted)
    tokens = actors.tokens_in(known)
    missing = [pair for pair in wanted if pair not in tokens]
    if missing:
        tokens |= actors.add_tokens(connection, partition, missing)
    return Surroundings(
        now=_now(clock),
        records=current.records_in(rows),
        used_keys=idempotency.used_in(used) if used else {},
        tokens=tokens,
    )


@dataclass(frozen=True)
class Offer:
    """Events for the log with all that is written beside them. Safe to send again as it is.

    ``bases`` gives the leaf that each originator's first event follows. With ``together`` the
    log takes all or nothing, otherwise all or nothing of each originator.
    """

    events: Sequence[OfferedEvent]
    bases: dict[UUID, bytes | None]
    records: Sequence[SettingsRecord]
    stamp: datetime | None = None
    together: bool = False
    notes: Sequence[tuple[ReasonNote, bytes, UUID, int]] = field(default_factory=list)
    used: Sequence[tuple[KeyAddress, UsedKey, bytes]] = field(default_factory=list)

    @classmethod
    def of(cls, folds: Sequence[SiteFold], stamp: datetime) -> Offer:
        """What several sites' folds offer, stamped with the database's time ``stamp``."""
        return cls(
            events=[event for fold in folds for event in fold.events],
            bases={fold.originator_id: fold.base for fold in folds},
            records=[fold.record for fold in folds if fold.record is not None],
            stamp=stamp,
            notes=[note for fold in folds for note in fold.notes],
            used=[key for fold in folds for key in fold.used],
        )

    def send(
        self, connection: Connection, partition: int, current: CurrentSettings | None
    ) -> Positions:
        """One transaction in one round trip; returns where the log has what was offered."""
        with connection.pipeline():
            connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            lock_partition(connection, partition)
            appended = eventlog.append(
                connection,
                partition,
                self.events,
                self.bases,
                stamp=self.stamp,
                together=self.together,
            )
            if current is not None:
                current.apply(connection, partition, self.records)
            if self.notes:
                actors.keep_reasons(connection, partition, self.notes)
            if self.used:
                idempotency.keep_used(connection, partition, self.used)
                # Twice as many go as come, so the table holds a day's keys without a sweeper.
                idempotency.forget_expired(connection, partition, 2 * len(self.used))
            connection.execute("COMMIT")
        return {
            (row["originator_id"], row["originator_version"]): row["position"] for row in appended
        }


def _now(clock: Cursor) -> datetime:
    (row,) = clock.fetchall()
    now: datetime = row["now"]
    return now.astimezone(UTC)
