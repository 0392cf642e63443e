"""Entries: the log's events as they are handed out, with the names and reasons that are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec import Raw

from ledger.database import Database
from ledger.eventlog import RecordedEvent
from ledger.history.facts import Facts, Token, Way
from ledger.history.names import identities_behind, reasons_behind
from ledger.identity import Identity, IdentityType

ERASED = "erased"
"""Stands for the id of an identity, or the text of a reason, that was erased."""


class Entry(msgspec.Struct, gc=False):
    """All that is known of a recorded change, in the order in which it is wanted as JSON.

    It is what a ``Change`` is, with ids and times as the log writes them, and with ``changes``
    and ``settings`` still the JSON that they are there.
    """

    partition: int
    position: int
    site_id: str
    kind: str
    version: int
    timestamp: str
    event_id: str
    actor: Identity | None
    on_behalf_of: Identity | None
    reason: str | None
    origin: str | None
    via: Way
    request_id: str | None
    changes: Raw
    settings: Raw


class EntryReader:
    """Reads entries straight from events, page by page, for whoever reads much of the log.

    A name is looked up once for all the entries of one reader.
    """

    MOST_NAMES = 50_000

    def __init__(self, database: Database) -> None:
        self._database = database
        self._who: dict[str, Identity | None] = {}
        self._why: dict[str, str] = {}

    def read(
        self,
        partition: int,
        events: Iterable[RecordedEvent],
        wanted: Callable[[Facts], bool],
    ) -> list[Entry]:
        """Entries of those of the partition's events that are wanted.

        Raises UnknownTopic, LedgerCorrupt.
        """
        told = [(event, facts) for event in events if wanted(facts := Facts.of(event))]
        self._learn(partition, [facts for _, facts in told])
        return [self._entry(event, facts) for event, facts in told]

    def _learn(self, partition: int, told: Sequence[Facts]) -> None:
        """Look up the names and reasons of a page."""
        if len(self._who) > self.MOST_NAMES:
            self._who.clear()
        self._why.clear()
        who = {facts.actor.ref for facts in told if facts.actor is not None}
        who |= {facts.on_behalf_of.ref for facts in told if facts.on_behalf_of is not None}
        why = {facts.reason.ref for facts in told if facts.reason is not None}
        # Not a difference of sets, which would look at all that are known.
        unknown = [ref for ref in who if ref not in self._who]
        if not unknown and not why:
            return
        with self._database.connection() as connection:
            named = identities_behind(connection, partition, unknown)
            self._why |= reasons_behind(connection, partition, why) if why else {}
        self._who |= dict.fromkeys(unknown) | named

    def _identity(self, token: Token | None) -> Identity | None:
        if token is None:
            return None
        return self._who[token.ref] or Identity(IdentityType(token.type), ERASED)

    def _entry(self, event: RecordedEvent, facts: Facts) -> Entry:
        reason = None if facts.reason is None else self._why.get(facts.reason.ref, ERASED)
        return Entry(
            partition=event.partition,
            position=event.position,
            site_id=facts.site_id,
            kind=facts.kind,
            version=event.originator_version,
            timestamp=facts.timestamp,
            event_id=facts.event_id,
            actor=self._identity(facts.actor),
            on_behalf_of=self._identity(facts.on_behalf_of),
            reason=reason,
            origin=facts.origin,
            via=facts.via,
            request_id=facts.request_id,
            changes=facts.changes,
            settings=facts.settings,
        )
