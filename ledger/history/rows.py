"""A recorded change as data: what one event says, without the names that are kept beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from ledger import timestamps
from ledger.aggregate import CHANGED_TOPIC, CREATED_TOPIC
from ledger.errors import UnknownTopic
from ledger.eventlog import RecordedEvent
from ledger.settings import changes_between


@dataclass(frozen=True, slots=True)
class RecordedChange:
    """One event, a function of its bytes alone; also a row of ``settings_history``.

    ``fields`` are the paths that changed and all that encloses them, sorted, so that
    ``emailNotifications`` is among them where ``emailNotifications.orderPlaced`` is.
    """

    partition: int
    position: int
    originator_id: UUID
    version: int
    site_id: UUID
    kind: str
    recorded_at: datetime
    event_id: UUID
    actor_type: str | None
    actor_ref: UUID | None
    on_behalf_of_type: str | None
    on_behalf_of_ref: UUID | None
    reason_ref: UUID | None
    origin: str | None
    channel: str
    credential: str | None
    asserted: bool
    request_id: str | None
    fields: list[str]
    changes: dict[str, dict[str, Any]]
    settings: dict[str, Any]

    @classmethod
    def of(cls, event: RecordedEvent) -> RecordedChange:
        """What ``event`` says. Raises UnknownTopic."""
        facts = event.facts
        if event.topic == CREATED_TOPIC:
            changes = changes_between({}, facts["settings"])
        elif event.topic == CHANGED_TOPIC:
            changes = facts["changes"]
        else:
            place = f"partition {event.partition}, position {event.position}"
            raise UnknownTopic(event.topic, place)
        actor, principal = facts.get("actor", {}), facts.get("on_behalf_of", {})
        via = facts["via"]
        return cls(
            partition=event.partition,
            position=event.position,
            originator_id=event.originator_id,
            version=event.originator_version,
            site_id=uuid_of(facts["site_id"]),
            kind=facts["kind"],
            recorded_at=timestamps.parse(facts["timestamp"]),
            event_id=UUID(facts["event_id"]),
            actor_type=actor.get("type"),
            actor_ref=_ref(actor),
            on_behalf_of_type=principal.get("type"),
            on_behalf_of_ref=_ref(principal),
            reason_ref=_ref(facts.get("reason", {})),
            origin=facts.get("origin"),
            channel=via["channel"],
            credential=via["credential"],
            asserted=via["asserted"],
            request_id=facts.get("request_id"),
            fields=touched(changes),
            changes=changes,
            settings=facts["settings"],
        )

    def difference(self, other: RecordedChange) -> str | None:
        """The first attribute in which ``other`` says something else, None where none does."""
        for name in self.__slots__:
            mine, theirs = getattr(self, name), getattr(other, name)
            # To Python True == 1; as JSON they differ.
            if mine != theirs or (name in ("changes", "settings") and _json(mine) != _json(theirs)):
                return name
        return None


@dataclass(frozen=True, slots=True)
class Standing:
    """Settings as they stood after the change ``version``, or at 0 before any was recorded.

    Before the first change of a kind a site has the kind's defaults, from the site's creation
    on; no position in the log says so, and none ever will.
    """

    version: int
    position: int | None
    recorded_at: datetime
    settings: dict[str, Any]

    @classmethod
    def after(cls, change: RecordedChange) -> Standing:
        """What a change left."""
        return cls(change.version, change.position, change.recorded_at, change.settings)


def touched(paths: Iterable[str]) -> list[str]:
    """The paths and all that encloses them, sorted."""
    found = set()
    for path in paths:
        names = path.split(".")
        found |= {".".join(names[:length]) for length in range(1, len(names) + 1)}
    return sorted(found)


@lru_cache(maxsize=50_000)
def uuid_of(text: str) -> UUID:
    """The same sites and the same people come again and again."""
    return UUID(text)


def _ref(token: dict[str, str]) -> UUID | None:
    return uuid_of(token["ref"]) if "ref" in token else None


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
