"""A change as an auditor reads it: with the names and the reason that are still kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, cast
from uuid import UUID

import orjson

from ledger import actors, timestamps
from ledger.aggregate import CHANGED_TOPIC, CREATED_TOPIC
from ledger.database import Connection, Database
from ledger.errors import UnknownTopic
from ledger.eventlog import RecordedEvent
from ledger.history.rows import RecordedChange, uuid_of
from ledger.identity import Identity, IdentityType, Via
from ledger.settings import changes_between

ERASED = "erased"
"""Stands for the id of an identity, or the text of a reason, that was erased."""


@dataclass(frozen=True, slots=True)
class Change:
    """One recorded event, with the names and the reason that are still kept.

    ``changes`` maps dotted paths to ``{"from", "to"}``, an end absent where there was or is no
    value; ``settings`` are the whole values after it. The creation has no actor, and its
    changes come from nothing.
    """

    site_id: UUID
    kind: str
    partition: int
    position: int
    version: int
    timestamp: datetime
    event_id: UUID
    actor: Identity | None
    changes: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    via: Via
    on_behalf_of: Identity | None = None
    reason: str | None = None
    origin: str | None = None
    request_id: str | None = None

    def json(self, *, located: bool = False) -> dict[str, Any]:
        """The change as JSON; ``located`` says on which site and of which kind, too."""
        told: dict[str, Any] = {}
        if located:
            told |= {"site_id": str(self.site_id), "kind": self.kind}
        told |= {
            "version": self.version,
            "position": self.position,
            "timestamp": timestamps.stored(self.timestamp),
            "actor": identity_json(self.actor),
        }
        if self.on_behalf_of is not None:
            told["on_behalf_of"] = identity_json(self.on_behalf_of)
        told["changes"] = self.changes
        optional = {"reason": self.reason, "origin": self.origin}
        return told | {name: item for name, item in optional.items() if item is not None}


def identity_json(identity: Identity | None) -> dict[str, str] | None:
    """``{"type", "id"}``, or null for nobody."""
    return None if identity is None else {"type": str(identity.type), "id": identity.id}


def name_changes(connection: Connection, rows: Sequence[RecordedChange]) -> list[Change]:
    """Rows with the names and reasons that are still kept, in the same order."""
    who: dict[tuple[int, UUID], Identity] = {}
    why: dict[tuple[int, UUID], str] = {}
    by_partition = sorted(rows, key=lambda row: row.partition)
    for partition, group in groupby(by_partition, key=lambda row: row.partition):
        here = list(group)
        if refs := _refs(here, "actor_ref", "on_behalf_of_ref"):
            found = actors.resolve_actors(connection, partition, refs)
            who |= {(partition, ref): identity for ref, identity in found.items()}
        if refs := _refs(here, "reason_ref"):
            texts = actors.resolve_reasons(connection, partition, refs)
            why |= {(partition, ref): text for ref, text in texts.items()}
    return [_named(row, who, why) for row in rows]


class ChangeReader:
    """Reads changes straight from events, page by page, for whoever reads much of the log.

    What it gives is what the rows of the history would. A name is looked up once for all the
    changes of one reader. Facts are parsed twice instead of being kept for a page: the garbage
    collector would look at each of them again and again, which takes longer.
    """

    MOST_NAMES = 50_000

    def __init__(self, database: Database) -> None:
        self._database = database
        self._who: dict[str, Identity | None] = {}
        self._why: dict[str, str] = {}

    def learn(self, partition: int, events: Sequence[RecordedEvent]) -> None:
        """Look up the names and reasons of a page, whose changes can then be read."""
        if len(self._who) > self.MOST_NAMES:
            self._who.clear()
        self._why.clear()
        who, why = _refs_in(events)
        unknown = who - self._who.keys()
        if not unknown and not why:
            return
        with self._database.connection() as connection:
            named = actors.resolve_actors(connection, partition, unknown)
            texts = actors.resolve_reasons(connection, partition, why)
        self._who |= dict.fromkeys(unknown) | {str(ref): who for ref, who in named.items()}
        self._why |= {str(ref): text for ref, text in texts.items()}

    def read(self, events: Iterable[RecordedEvent]) -> list[Change]:
        """The changes that events of the page tell of. Raises UnknownTopic."""
        return [self._change(event) for event in events]

    def _identity(self, token: dict[str, str] | None) -> Identity | None:
        if token is None:
            return None
        return self._who[token["ref"]] or Identity(IdentityType(token["type"]), ERASED)

    def _change(self, event: RecordedEvent) -> Change:
        facts: dict[str, Any] = orjson.loads(event.state)
        if event.topic == CHANGED_TOPIC:
            changes = facts["changes"]
        elif event.topic == CREATED_TOPIC:
            changes = dict(sorted(changes_between({}, facts["settings"]).items()))
        else:
            place = f"partition {event.partition}, position {event.position}"
            raise UnknownTopic(event.topic, place)
        via = facts["via"]
        why = facts.get("reason")
        return Change(
            site_id=uuid_of(facts["site_id"]),
            kind=facts["kind"],
            partition=event.partition,
            position=event.position,
            version=event.originator_version,
            timestamp=timestamps.parse(facts["timestamp"]),
            event_id=UUID(facts["event_id"]),
            actor=self._identity(facts.get("actor")),
            changes=changes,
            settings=facts["settings"],
            via=Via(via["channel"], via["credential"], via["asserted"]),
            on_behalf_of=self._identity(facts.get("on_behalf_of")),
            reason=None if why is None else self._why.get(why["ref"], ERASED),
            origin=facts.get("origin"),
            request_id=facts.get("request_id"),
        )


def _refs_in(events: Iterable[RecordedEvent]) -> tuple[set[str], set[str]]:
    """The references of who acted or for whom, and of why."""
    who, why = set(), set()
    for event in events:
        facts = orjson.loads(event.state)
        if "actor" in facts:
            who.add(facts["actor"]["ref"])
        if "on_behalf_of" in facts:
            who.add(facts["on_behalf_of"]["ref"])
        if "reason" in facts:
            why.add(facts["reason"]["ref"])
    return who, why


def _refs(rows: Iterable[RecordedChange], *names: str) -> set[UUID]:
    return {ref for row in rows for name in names if (ref := getattr(row, name)) is not None}


def _ordered(value: Any) -> Any:
    """The same JSON with its keys sorted, as the log has it: jsonb has an order of its own."""
    if isinstance(value, dict):
        return {name: _ordered(value[name]) for name in sorted(value)}
    return [_ordered(item) for item in value] if isinstance(value, list) else value


def _named(
    row: RecordedChange,
    who: dict[tuple[int, UUID], Identity],
    why: dict[tuple[int, UUID], str],
) -> Change:
    def identity(of_type: str | None, ref: UUID | None) -> Identity | None:
        if of_type is None or ref is None:
            return None
        return who.get((row.partition, ref), Identity(IdentityType(of_type), ERASED))

    reason = None
    if row.reason_ref is not None:
        reason = why.get((row.partition, row.reason_ref), ERASED)
    return Change(
        site_id=row.site_id,
        kind=row.kind,
        partition=row.partition,
        position=row.position,
        version=row.version,
        timestamp=row.recorded_at,
        event_id=row.event_id,
        actor=identity(row.actor_type, row.actor_ref),
        changes={path: _ordered(row.changes[path]) for path in sorted(row.changes)},
        settings=_ordered(row.settings),
        via=Via(cast("Any", row.channel), row.credential, row.asserted),
        on_behalf_of=identity(row.on_behalf_of_type, row.on_behalf_of_ref),
        reason=reason,
        origin=row.origin,
        request_id=row.request_id,
    )
