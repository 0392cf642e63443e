"""What a batch of commands makes of a site: the events to offer, and each command's answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from eventsourcing.persistence import IntegrityError, StoredEvent

from ledger.actors import ReasonNote, SiteIdentity
from ledger.aggregate import (
    CHANGED_TOPIC,
    CREATED_TOPIC,
    Attribution,
    SettingsRecord,
    SiteSettings,
    Token,
)
from ledger.commands import SettingsCommand
from ledger.errors import IdempotencyConflict, LedgerError, UnknownTopic, VersionMismatch
from ledger.eventlog import Head, OfferedEvent
from ledger.idempotency import KeyAddress, UsedKey
from ledger.mapper import SettingsMapper


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer of a request that was made before: the settings as of ``version``."""

    version: int


@dataclass
class Surroundings:
    """What was read for a batch before its commands are decided."""

    now: datetime
    records: Mapping[UUID, SettingsRecord]
    used_keys: Mapping[KeyAddress, UsedKey]
    tokens: Mapping[SiteIdentity, Token]
    aggregates: Mapping[UUID, SiteSettings] = field(default_factory=dict)
    """Those of ``records`` that stand ready; they are changed, not copied."""


@dataclass
class SiteFold:
    """One site's part of a batch. All of its events are accepted by the log, or none.

    Answers hold only if the events are accepted, and so do refusals: both were judged by
    what the site would be then.
    """

    partition: int
    originator_id: UUID
    record: SettingsRecord | None
    mapper: SettingsMapper
    aggregate: SiteSettings | None = None
    events: list[OfferedEvent] = field(default_factory=list)
    answers: list[tuple[SettingsCommand, SettingsRecord | LedgerError]] = field(
        default_factory=list
    )
    notes: list[tuple[ReasonNote, UUID]] = field(default_factory=list)
    used: list[tuple[KeyAddress, UsedKey]] = field(default_factory=list)
    actor_refs: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.base = self.record.leaf_hash if self.record else None
        # An aggregate that went on with changes which were never offered is of no use any more.
        if self.record and (
            self.aggregate is None or self.aggregate.version != self.record.version
        ):
            self.aggregate = SiteSettings.standing_at(self.record)

    @property
    def commands(self) -> list[SettingsCommand]:
        """The commands of this site, in order of arrival."""
        return [command for command, _ in self.answers]

    def decide(self, command: SettingsCommand, around: Surroundings) -> Replay | None:
        """Run the next command on what the ones before it left.

        A Replay is returned, and no answer of this fold: it holds whatever becomes of the events.
        """
        answer = self._answer(command, around)
        if isinstance(answer, Replay):
            return answer
        self.answers.append((command, answer))
        return None

    def _answer(
        self, command: SettingsCommand, around: Surroundings
    ) -> SettingsRecord | Replay | LedgerError:
        earlier = self._used_before(command, around)
        if earlier is not None:
            return earlier
        version = self.record.version if self.record else 0
        if command.if_match is not None and version not in command.if_match:
            return VersionMismatch(command.if_match, version)
        via = command.provenance.via
        if self.aggregate is None:
            self.aggregate = SiteSettings.create(command.site_id, command.kind, via, around.now)
        note = None
        if command.patch is not None:
            note = self._change(self.aggregate, command, around)
        record = self._offer_pending(self.aggregate, command.site_id)
        if note is not None:
            self.notes.append((note, self.originator_id))
        if command.idempotency is not None and command.key_address is not None:
            key = UsedKey(command.idempotency.request_hash, record.version)
            self.used.append((command.key_address, key))
        return record

    def _used_before(
        self, command: SettingsCommand, around: Surroundings
    ) -> Replay | SettingsRecord | LedgerError | None:
        if command.idempotency is None or command.key_address is None:
            return None
        within = dict(self.used)
        key = within.get(command.key_address) or around.used_keys.get(command.key_address)
        if key is None:
            return None
        if key.request_hash != command.idempotency.request_hash:
            return IdempotencyConflict(
                "This Idempotency-Key was used for another request within the last 24 hours."
            )
        for _, answer in self.answers:
            if isinstance(answer, SettingsRecord) and answer.version == key.version:
                return answer
        return Replay(key.version)

    def _change(
        self, aggregate: SiteSettings, command: SettingsCommand, around: Surroundings
    ) -> ReasonNote | None:
        why = command.provenance
        note = ReasonNote.write(command.site_id, why.reason) if why.reason is not None else None
        attribution = Attribution(
            actor=around.tokens[command.site_id, why.actor],
            via=why.via,
            on_behalf_of=(
                around.tokens[command.site_id, why.on_behalf_of] if why.on_behalf_of else None
            ),
            reason=note.token if note else None,
            origin=why.origin,
            request_id=why.request_id,
        )
        for token in (attribution.actor, attribution.on_behalf_of):
            if token is not None:
                self.actor_refs.add(token["ref"])
        aggregate.change(command.kind, command.patch or {}, attribution, around.now)
        return note

    def _offer_pending(self, aggregate: SiteSettings, site_id: UUID) -> SettingsRecord:
        for pending in aggregate.collect_events():
            stored = self.mapper.to_stored_event(pending)
            self.events.append(
                OfferedEvent.following(
                    self._leaf,
                    self.originator_id,
                    stored.originator_version,
                    stored.topic,
                    stored.state,
                )
            )
        self.record = SettingsRecord(
            site_id=site_id,
            kind=aggregate.kind,
            version=aggregate.version,
            partition=self.partition,
            position=self.record.position if self.record else 0,
            leaf_hash=self._leaf,
            settings=aggregate.settings,
            created=aggregate.created_on,
            updated=aggregate.modified_on,
        )
        return self.record

    @property
    def _leaf(self) -> bytes | None:
        return self.events[-1].leaf_hash if self.events else self.base


def chain(stored_events: Sequence[StoredEvent], heads: Mapping[UUID, Head]) -> list[OfferedEvent]:
    """Finished events as they follow the log's heads.

    Raises the library's IntegrityError unless every version is the next of its originator;
    the first may be 0 or 1, since the library's aggregates may start at either.
    """
    standing = dict(heads)
    offered: list[OfferedEvent] = []
    for stored in stored_events:
        originator_id = UUID(str(stored.originator_id))
        head = standing.get(originator_id)
        expected = (head.originator_version + 1,) if head else (0, 1)
        if stored.originator_version not in expected:
            message = (
                f"{originator_id} version {stored.originator_version} cannot be appended: "
                f"the next is {expected[-1]}"
            )
            raise IntegrityError(message)
        event = OfferedEvent.following(
            head.leaf_hash if head else None,
            originator_id,
            stored.originator_version,
            stored.topic,
            stored.state,
        )
        standing[originator_id] = Head(originator_id, event.originator_version, event.leaf_hash)
        offered.append(event)
    return offered


def refuse_unknown(events: Sequence[OfferedEvent]) -> None:
    """Raise UnknownTopic for an event that is not of this ledger."""
    for event in events:
        if event.topic not in (CREATED_TOPIC, CHANGED_TOPIC):
            raise UnknownTopic(event.topic, f"{event.originator_id}, offered")
