"""A change as an auditor reads it: with the names and the reason that are still kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from typing import Any
from uuid import UUID

from ledger import actors, timestamps
from ledger.database import Connection
from ledger.history.entries import ERASED, Entry
from ledger.history.facts import uuid_in, values_in
from ledger.history.rows import RecordedChange, uuid_of
from ledger.identity import Identity, IdentityType, Via

__all__ = ["ERASED", "Change", "identity_json", "name_changes"]


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

    @classmethod
    def of(cls, entry: Entry) -> Change:
        """The change that an entry tells of."""
        via = entry.via
        return cls(
            site_id=uuid_of(entry.site_id),
            kind=entry.kind,
            partition=entry.partition,
            position=entry.position,
            version=entry.version,
            timestamp=timestamps.parse(entry.timestamp),
            event_id=uuid_in(entry.event_id),
            actor=entry.actor,
            changes=values_in(entry.changes),
            settings=values_in(entry.settings),
            via=_via(via.channel, via.credential, via.asserted),
            on_behalf_of=entry.on_behalf_of,
            reason=entry.reason,
            origin=entry.origin,
            request_id=entry.request_id,
        )

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


@lru_cache(maxsize=1000)
def _via(channel: Any, credential: str | None, asserted: bool) -> Via:
    """The same few come again and again."""
    return Via(channel, credential, asserted)


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
        via=_via(row.channel, row.credential, row.asserted),
        on_behalf_of=identity(row.on_behalf_of_type, row.on_behalf_of_ref),
        reason=reason,
        origin=row.origin,
        request_id=row.request_id,
    )
