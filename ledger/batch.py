"""What a batch reads before it decides, and what it offers to the log afterwards."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from ledger import actors, eventlog, idempotency
from ledger.actors import ReasonNote
from ledger.aggregate import SettingsRecord
from ledger.commands import SettingsCommand
from ledger.database import Connection, Cursor
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
    log takes all or nothing, otherwise all or nothing of each originator. With ``current`` the
    newest events become the current settings. ``stamps`` are the database's times of the first
    and the last decision, ``actor_refs`` whom the events refer to.
    """

    events: Sequence[OfferedEvent]
    bases: dict[UUID, bytes | None]
    stamps: tuple[datetime, datetime] | None = None
    actor_refs: Collection[UUID] = ()
    together: bool = False
    current: bool = True
    notes: Sequence[tuple[ReasonNote, bytes, UUID, int]] = ()
    used: Sequence[tuple[KeyAddress, UsedKey, bytes]] = ()

    @classmethod
    def of(cls, folds: Sequence[SiteFold], stamps: tuple[datetime, datetime]) -> Offer:
        """What several sites' folds offer, decided between the database's times ``stamps``."""
        return cls(
            events=[event for fold in folds for event in fold.events],
            bases={fold.originator_id: fold.base for fold in folds},
            stamps=stamps,
            actor_refs={UUID(ref) for fold in folds for ref in fold.actor_refs},
            notes=[note for fold in folds for note in fold.notes],
            used=[key for fold in folds for key in fold.used],
        )

    def parameters(self, partition: int) -> list[bytes | None]:
        """For the statement of ``eventlog.prepare_append``."""
        return [
            *eventlog.append_parameters(
                partition,
                self.events,
                self.bases,
                stamps=self.stamps,
                actor_refs=self.actor_refs,
                together=self.together,
            ),
            *eventlog.current_parameters(self.events if self.current else ()),
            *actors.reason_parameters(self.notes),
            *idempotency.used_parameters(self.used),
        ]

    def landed(self, answer: Sequence[bytes | None]) -> tuple[Positions, datetime]:
        """Where the log has what was offered, by its answer, and its clock when it was asked."""
        places, clock = eventlog.appended_in(answer)
        positions = {
            (event.originator_id, event.originator_version): place
            for event, place in zip(self.events, places, strict=True)
            if place is not None
        }
        return positions, clock


def _now(clock: Cursor) -> datetime:
    (row,) = clock.fetchall()
    now: datetime = row["now"]
    return now.astimezone(UTC)
