"""The pull feed: an app's webhook events on one site, for apps that ask instead of being told."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ledger import eventlog, timestamps
from ledger.actors import resolve_actors
from ledger.aggregate import CHANGED_TOPIC, CREATED_TOPIC, originator_id
from ledger.database import Connection, Database
from ledger.directory import Installation
from ledger.errors import InvalidInput, UnknownTopic
from ledger.eventlog import RecordedEvent
from ledger.publisher.envelope import webhook_data
from ledger.settings import SettingsKind


@dataclass(frozen=True)
class Pulled:
    """Some events, each the JSON of the claim ``data`` of its webhook, oldest first.

    ``position`` is where to go on: that of the last one. ``more`` says whether there are.
    """

    events: list[dict[str, Any]]
    position: int
    more: bool


class PullFeed:
    """Reads what an installation's webhooks tell, straight from the log. Blocking, any thread.

    An event is in it from the moment that it is acknowledged; those from before the app was
    installed never are. An app needs no subscription to pull.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def after(
        self, installation: Installation, kinds: Iterable[SettingsKind], position: int, limit: int
    ) -> Pulled:
        """The next ``limit`` events of these kinds behind ``position``.

        Raises UnknownTopic where the next one is of a type that this program does not know,
        InvalidInput for a position that the log has not reached.
        """
        position = max(position, installation.after_position)
        by_entity = {originator_id(installation.site_id, kind.fqdn): kind for kind in kinds}
        with self._database.connection() as connection:
            found = _read(connection, installation, list(by_entity), position, limit)
            if not found:
                _expect_reached(connection, installation, position)
            page = _known(found[:limit])
            created = _creations(connection, installation.partition, page)
            actors = resolve_actors(
                connection, installation.partition, {e.facts["actor"]["ref"] for e in page}
            )
        events = [
            json.loads(
                webhook_data(
                    event.facts,
                    by_entity[event.originator_id],
                    version=event.originator_version,
                    entity_id=event.originator_id,
                    created=timestamps.parse(created[event.originator_id]),
                    actor=actors.get(UUID(event.facts["actor"]["ref"])),
                    instance_id=installation.instance_id,
                )
            )
            for event in page
        ]
        reached = page[-1].position if page else position
        return Pulled(events, reached, len(found) > len(page))


def _read(
    connection: Connection,
    installation: Installation,
    entities: Sequence[UUID],
    position: int,
    limit: int,
) -> list[RecordedEvent]:
    """The next events to tell of, and one more where there is one; by position."""
    found: list[RecordedEvent] = []
    heads = eventlog.read_heads(connection, installation.partition, entities)
    for entity, head in heads.items():
        version = _version_behind(
            connection, installation.partition, entity, head.originator_version, position
        )
        found += eventlog.read_originator(
            connection,
            installation.partition,
            entity,
            from_version=version,
            # One to see whether there is more, and one for the creation, which is not told.
            limit=limit + 2,
        )
    until = installation.until_position
    told = [
        event
        for event in found
        if event.topic != CREATED_TOPIC and (until is None or event.position <= until)
    ]
    return sorted(told, key=lambda event: event.position)[: limit + 1]


def _expect_reached(connection: Connection, installation: Installation, position: int) -> None:
    """Raise InvalidInput for a position from elsewhere: events up to there would be passed over."""
    head = eventlog.head(connection, installation.partition)
    if position > head:
        raise InvalidInput("after", f"the log has not reached {position}; it is at {head}")


def _version_behind(
    connection: Connection, partition: int, entity: UUID, newest: int, position: int
) -> int:
    """The entity's first version behind ``position``: both rise together, so a few looks suffice."""

    def position_of(version: int) -> int:
        [event] = eventlog.read_originator(
            connection, partition, entity, from_version=version, limit=1
        )
        return event.position

    # Whoever has seen everything asks most often.
    if position_of(newest) <= position:
        return newest + 1
    return bisect_right(range(1, newest + 1), position, key=position_of) + 1


def _known(events: Sequence[RecordedEvent]) -> list[RecordedEvent]:
    """The events up to the first of an unknown type. Raises UnknownTopic where that is the first."""
    known: list[RecordedEvent] = []
    for event in events:
        if event.topic != CHANGED_TOPIC:
            if known:
                break
            place = f"partition {event.partition}, position {event.position}"
            raise UnknownTopic(event.topic, place)
        known.append(event)
    return known


def _creations(
    connection: Connection, partition: int, events: Iterable[RecordedEvent]
) -> dict[UUID, str]:
    created = {}
    for entity in {event.originator_id for event in events}:
        [first] = eventlog.read_originator(connection, partition, entity, from_version=1, limit=1)
        created[entity] = first.facts["timestamp"]
    return created
