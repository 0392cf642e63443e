"""The aggregate: one site's settings of one kind, rebuilt from events. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, cast
from uuid import UUID, uuid5

from eventsourcing.domain import Aggregate, Snapshot, event
from uuid_utils import uuid7

from ledger import timestamps
from ledger.fields import copied
from ledger.identity import Via
from ledger.settings import SettingsKind, changes_between

CREATED_TOPIC = "ledger:SettingsCreated"
CHANGED_TOPIC = "ledger:SettingsChanged"

Token = dict[str, str]
"""A reference into a side table and a commitment to what it holds; never the value itself."""


@lru_cache(maxsize=16_384)
def originator_id(site_id: UUID, fqdn: str) -> UUID:
    """The id of a site's settings of one kind; also the webhook's ``entityId``."""
    return uuid5(site_id, fqdn)


@dataclass(frozen=True, slots=True)
class Attribution:
    """What an event says of its origin, free of personal data.

    ``actor`` and ``on_behalf_of`` are ``{"type", "ref", "commitment"}``, ``reason`` is
    ``{"ref", "commitment"}``; absent means absent.
    """

    actor: Token
    via: Via
    on_behalf_of: Token | None = None
    reason: Token | None = None
    origin: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class SettingsRecord:
    """A site's settings of one kind as they stood after ``version``, and where that is recorded.

    Version and position 0 mean that nothing is recorded yet and the defaults are served.
    """

    site_id: UUID
    kind: str
    version: int
    partition: int
    position: int
    leaf_hash: bytes | None
    settings: dict[str, Any]
    created: datetime
    updated: datetime

    def copy(self, position: int) -> SettingsRecord:
        """The same at ``position``, with settings that are nobody else's."""
        return SettingsRecord(
            self.site_id,
            self.kind,
            self.version,
            self.partition,
            position,
            self.leaf_hash,
            copied(self.settings),
            self.created,
            self.updated,
        )


def snapshot_state(record: SettingsRecord) -> dict[str, Any]:
    """The aggregate's attributes as the library's snapshots hold them."""
    return {
        "_created_on": record.created,
        "_modified_on": record.updated,
        "site_id": str(record.site_id),
        "kind": record.kind,
        "settings": record.settings,
    }


def via_facts(via: Via) -> dict[str, Any]:
    """``via`` as it is stored."""
    return {"channel": via.channel, "credential": via.credential, "asserted": via.asserted}


class SiteSettings(Aggregate):
    """A site's settings of one kind: the values, their version and their two dates."""

    TOPIC = "ledger:SiteSettings"

    class Event(Aggregate.Event):
        """Base of this aggregate's events."""

        TOPIC = "ledger:SettingsEvent"

    class Created(Event, Aggregate.Created):
        """The site got its first settings, the kind's defaults."""

        TOPIC = CREATED_TOPIC

        event_id: str
        site_id: str
        kind: str
        settings: dict[str, Any]
        via: dict[str, Any]

    class Changed(Event):
        """A patch was accepted; also where no value differs."""

        TOPIC = CHANGED_TOPIC

        event_id: str
        site_id: str
        kind: str
        patch: dict[str, Any]
        changes: dict[str, dict[str, Any]]
        settings: dict[str, Any]
        actor: Token
        via: dict[str, Any]
        on_behalf_of: Token | None = None
        reason: Token | None = None
        origin: str | None = None
        request_id: str | None = None

    @event(Created)
    def __init__(self, site_id: str, kind: str, settings: dict[str, Any]) -> None:
        self.site_id = site_id
        self.kind = kind
        self.settings = settings

    @event(Changed)
    def _apply_change(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    @classmethod
    def create(cls, site_id: UUID, kind: SettingsKind, via: Via, now: datetime) -> SiteSettings:
        """A new site's settings: the kind's defaults, recorded as ``SettingsCreated``."""
        return cls._create(
            cls.Created,
            id=originator_id(site_id, kind.fqdn),
            timestamp=now,
            event_id=str(uuid7()),
            site_id=str(site_id),
            kind=kind.fqdn,
            settings=kind.defaults(),
            via=via_facts(via),
        )

    @classmethod
    def standing_at(cls, record: SettingsRecord) -> SiteSettings:
        """The aggregate as ``record`` has it, at a cost that does not depend on its history."""
        snapshot = Snapshot(
            originator_id=originator_id(record.site_id, record.kind),
            originator_version=record.version,
            timestamp=record.updated,
            topic=cls.TOPIC,
            state=snapshot_state(record),
        )
        return cast("SiteSettings", snapshot.mutate(None))

    def change(
        self,
        kind: SettingsKind,
        patch: dict[str, Any],
        attribution: Attribution,
        now: datetime,
    ) -> None:
        """Accept a validated ``patch``: record ``SettingsChanged`` and take on its settings.

        The timestamp is ``now``, or one microsecond after the last where the clock went back.
        """
        settings = kind.merge(self.settings, patch)
        self.trigger_event(
            self.Changed,
            timestamp=timestamps.after(now, self.modified_on),
            event_id=str(uuid7()),
            site_id=self.site_id,
            kind=self.kind,
            patch=patch,
            changes=changes_between(self.settings, settings),
            settings=settings,
            actor=attribution.actor,
            via=via_facts(attribution.via),
            on_behalf_of=attribution.on_behalf_of,
            reason=attribution.reason,
            origin=attribution.origin,
            request_id=attribution.request_id,
        )


SettingsCreated = SiteSettings.Created
SettingsChanged = SiteSettings.Changed
