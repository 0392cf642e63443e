"""What a batch reads before it decides, and what it offers to the log afterwards."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Protocol
from uuid import UUID

from ledger import actors, eventlog, idempotency, wire
from ledger.actors import ReasonNote, SiteIdentity
from ledger.aggregate import SettingsRecord, Token
from ledger.commands import SettingsCommand
from ledger.database import Connection, Cursor
from ledger.eventlog import OfferedEvent
from ledger.folding import SiteFold, Surroundings
from ledger.idempotency import KeyAddress, UsedKey
from ledger.statement import Statement

Positions = dict[tuple[UUID, int], int]
"""Where the log has an event: by originator and version."""


class CurrentSettings(Protocol):
    """The inline projection: the settings as they stand, changed within the append."""

    def looked_up(
        self,
        partition: int,
        wanted: Sequence[tuple[UUID, str]],
        columns: Sequence[bytes | None],
    ) -> dict[UUID, SettingsRecord]:
        """What ``read_surroundings`` found of the wanted (site, kind), by originator."""

    def select(self, connection: Connection, partition: int, originators: Sequence[UUID]) -> Cursor:
        """Rows of the originators that have settings; read them with ``records_in``."""

    def records_in(self, rows: Cursor) -> dict[UUID, SettingsRecord]:
        """What ``select`` found."""


_READ = """
SELECT clock_timestamp(), read.* FROM read_surroundings($1, $2, $3, $4, $5, $6, $7, $8, $9) AS read
"""


def read_surroundings(
    connection: Connection,
    partition: int,
    current: CurrentSettings,
    commands: Sequence[SettingsCommand],
    known: Mapping[SiteIdentity, Token] = MappingProxyType({}),
) -> Surroundings:
    """All that the commands' decisions rest on, in one round trip and as of one moment.

    Whoever is ``known`` is not looked for: the append refuses those who were erased.

    Of one moment: a key that was used is seen with what it changed, or else its site moved on
    unseen, which the append notices. A second round trip makes those known who act on a site for
    the first time. The connection is in autocommit mode.
    """
    sites = list({command.originator_id: command for command in commands}.values())
    keys = [address for command in commands if (address := command.key_address)]
    acting = {pair for command in commands for pair in command.identities}
    wanted = [pair for pair in acting if pair not in known]
    reading = Statement.prepared(connection, _READ, "ledger_read")
    reading.send(
        [
            wire.integer(partition),
            wire.uuids([command.originator_id for command in sites]),
            *idempotency.look_parameters(keys),
            *actors.look_parameters(wanted),
        ]
    )
    clock, *found = reading.answer()
    if clock is None:
        message = "the database has no clock"
        raise AssertionError(message)
    tokens = actors.looked_up(wanted, found[10:])
    missing = [pair for pair in wanted if pair not in tokens]
    if missing:
        tokens |= actors.add_tokens(connection, partition, missing)
    return Surroundings(
        now=wire.timestamp_in(clock),
        records=current.looked_up(
            partition, [(command.site_id, command.kind.fqdn) for command in sites], found[:7]
        ),
        used_keys=idempotency.looked_up(keys, found[7:10]),
        tokens={pair: known[pair] for pair in acting if pair in known} | tokens,
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
    notes: Sequence[tuple[ReasonNote, UUID]] = ()
    used: Sequence[tuple[KeyAddress, UsedKey]] = ()

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
                current=self.current,
            ),
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
