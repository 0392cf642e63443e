"""The history of a site's settings: what was changed, when, by whom and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger import actors, eventlog, timestamps
from ledger.aggregate import CHANGED_TOPIC, CREATED_TOPIC, originator_id
from ledger.database import Connection, Database
from ledger.errors import UnknownTopic
from ledger.eventlog import RecordedEvent
from ledger.identity import Identity, IdentityType
from ledger.settings import SettingsKind, changes_between

ERASED = "erased"
"""Stands for the id of an identity, or the text of a reason, that was erased."""


@dataclass(frozen=True)
class Change:
    """One recorded event, as an auditor reads it.

    ``changes`` maps dotted paths to ``{"from", "to"}``; the creation has no actor, and its
    changes come from nothing.
    """

    version: int
    position: int
    timestamp: datetime
    actor: Identity | None
    changes: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    on_behalf_of: Identity | None = None
    reason: str | None = None
    origin: str | None = None


class SiteHistory:
    """The history of one site's settings of one kind."""

    def __init__(
        self, database: Database, partition: int, site_id: UUID, kind: SettingsKind
    ) -> None:
        self._database = database
        self._partition = partition
        self._originator_id = originator_id(site_id, kind.fqdn)

    def changes(
        self, from_version: int = 0, to_version: int | None = None, *, limit: int | None = None
    ) -> list[Change]:
        """The changes between two versions (inclusive), newest first; the creation is version 1."""
        with self._database.connection() as connection:
            events = eventlog.read_originator(
                connection,
                self._partition,
                self._originator_id,
                from_version=from_version,
                to_version=to_version,
                newest_first=True,
                limit=limit,
            )
            return changes_of(connection, self._partition, events)


def changes_of(
    connection: Connection, partition: int, events: Sequence[RecordedEvent]
) -> list[Change]:
    """Events as auditors read them, with the names and texts that are still kept."""
    who = actors.resolve_actors(connection, partition, _refs(events, "actor", "on_behalf_of"))
    why = actors.resolve_reasons(connection, partition, _refs(events, "reason"))
    return [_change(event, who, why) for event in events]


def _refs(events: Iterable[RecordedEvent], *names: str) -> set[str]:
    return {event.facts[name]["ref"] for event in events for name in names if name in event.facts}


def _change(event: RecordedEvent, who: dict[UUID, Identity], why: dict[UUID, str]) -> Change:
    facts = event.facts
    if event.topic == CREATED_TOPIC:
        changes = changes_between({}, facts["settings"])
    elif event.topic == CHANGED_TOPIC:
        changes = facts["changes"]
    else:
        raise UnknownTopic(event.topic, f"partition {event.partition} position {event.position}")
    reason = facts.get("reason")
    return Change(
        version=event.originator_version,
        position=event.position,
        timestamp=timestamps.parse(facts["timestamp"]),
        actor=_named(facts.get("actor"), who),
        changes=changes,
        settings=facts["settings"],
        on_behalf_of=_named(facts.get("on_behalf_of"), who),
        reason=why.get(UUID(reason["ref"]), ERASED) if reason else None,
        origin=facts.get("origin"),
    )


def _named(token: dict[str, str] | None, who: dict[UUID, Identity]) -> Identity | None:
    if token is None:
        return None
    return who.get(UUID(token["ref"]), Identity(IdentityType(token["type"]), ERASED))
