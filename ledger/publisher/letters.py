"""Letters: events from the log, each ready for one subscription."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Lock
from typing import Any
from uuid import UUID

from cachetools import LRUCache

from ledger import timestamps
from ledger.actors import resolve_actors
from ledger.aggregate import CHANGED_TOPIC, CREATED_TOPIC
from ledger.database import Connection, Database
from ledger.errors import LedgerCorrupt, UnknownTopic
from ledger.eventlog import RecordedEvent, read_after, read_originator
from ledger.identity import Identity
from ledger.kinds import KINDS
from ledger.publisher.envelope import webhook_data
from ledger.publisher.sharing import Shared
from ledger.publisher.spans import Span

REMEMBERED_SITES = 20_000

REMEMBERED_READINGS = 16

READING_MEMORY = 2.0
"""Seconds for which feeds of one app share what one of them read."""

_NEWEST = """
SELECT max(originator_version) AS version, count(*) AS letters
FROM events
WHERE EXISTS (
    SELECT FROM current_settings AS site
    JOIN installations AS installation USING (site_id)
    WHERE (site.partition, site.originator_id) = (events.partition, events.originator_id)
      AND installation.app_id = %s
      AND installation.after_position < events.position
      AND (installation.until_position IS NULL
           OR events.position <= installation.until_position)
  )
  AND partition = %s AND originator_id = %s AND originator_version >= %s AND position <= %s
"""


@dataclass(frozen=True, slots=True)
class Letter:
    """One event for one subscription; ``data`` is the claim of that name, the same each time.

    ``skipped`` counts the versions before it that the receiver does not get.
    """

    position: int
    originator_id: UUID
    version: int
    site_id: UUID
    event_id: str
    data: str
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """A stretch of the log: the letters in it, and how far it goes.

    ``events`` counts what was looked at, also events that are nobody's here. ``unknown`` is
    why the reading ended early: the event behind ``last_position`` is of an unknown type.
    """

    letters: Sequence[Letter]
    events: int = 0
    last_position: int = 0
    last_version: int = 0
    unknown: UnknownTopic | None = None


class LetterReader:
    """Reads the log for subscriptions. Blocking; safe from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._created: LRUCache[UUID, datetime] = LRUCache(REMEMBERED_SITES)
        self._lock = Lock()
        # Not for long: who acted may be erased meanwhile.
        self._readings: Shared[Reading] = Shared(REMEMBERED_READINGS, READING_MEMORY)

    def after(self, span: Span, position: int, until: int, limit: int) -> Reading:
        """The next ``limit`` events of the partition behind ``position``, up to ``until``.

        Feeds of one app that stand at the same place read it once together: which sites the app
        was installed on when an event was appended does not change any more.
        """
        if span.sites is None:
            place = (span.partition, span.app_id, span.event_type, position, until, limit)
            reading = self._readings.get(place, lambda: self._after(span, position, until, limit))
        else:
            reading = self._after(span, position, until, limit)
        if not span.beyond:
            return reading
        lacking = [letter for letter in reading.letters if not span.is_done(letter.position)]
        return replace(reading, letters=lacking)

    def _after(self, span: Span, position: int, until: int, limit: int) -> Reading:
        with self._database.connection() as connection:
            events = read_after(connection, span.partition, position, limit)
            return self._reading(connection, span, events, until)

    def of_site(
        self, span: Span, originator_id: UUID, from_version: int, until_position: int, limit: int
    ) -> Reading:
        """The next ``limit`` events of one originator, up to a position."""
        with self._database.connection() as connection:
            events = read_originator(
                connection, span.partition, originator_id, from_version=from_version, limit=limit
            )
            return self._reading(connection, span, events, until_position)

    def newest_of_site(
        self, span: Span, originator_id: UUID, from_version: int, until_position: int
    ) -> Reading:
        """The originator's newest letter up to a position; it tells how many it skips."""
        with self._database.connection() as connection:
            row = connection.execute(
                _NEWEST, (span.app_id, span.partition, originator_id, from_version, until_position)
            ).fetchone()
            if row is None or row["version"] is None:
                return Reading(())
            version = row["version"]
            events = read_originator(
                connection, span.partition, originator_id, from_version=version, limit=1
            )
            reading = self._reading(connection, span, events, until_position)
        letters = [replace(letter, skipped=row["letters"] - 1) for letter in reading.letters]
        return replace(reading, letters=letters)

    def _reading(
        self, connection: Connection, span: Span, found: Iterable[RecordedEvent], until: int
    ) -> Reading:
        events, unknown = _known([event for event in found if event.position <= until], span)
        if not events:
            return Reading((), unknown=unknown)
        wanted = [event for event in events if _is_for(event, span)]
        # Only now: an installation made before one of these events was appended is committed.
        instances = _Instances.load(connection, span, wanted)
        addressed = [
            (event, instance) for event in wanted if (instance := instances.at(event)) is not None
        ]
        letters = self._letters(connection, span.partition, addressed)
        last = events[-1]
        return Reading(letters, len(events), last.position, last.originator_version, unknown)

    def _letters(
        self,
        connection: Connection,
        partition: int,
        addressed: Sequence[tuple[RecordedEvent, UUID]],
    ) -> list[Letter]:
        if not addressed:
            return []
        events = [event for event, _ in addressed]
        created = self._creation_dates(connection, partition, {e.originator_id for e in events})
        actors = resolve_actors(connection, partition, {e.facts["actor"]["ref"] for e in events})
        return [
            _letter(event, instance_id, created[event.originator_id], actors)
            for event, instance_id in addressed
        ]

    def _creation_dates(
        self, connection: Connection, partition: int, originators: set[UUID]
    ) -> dict[UUID, datetime]:
        """When each one's settings were created: its first event's time, which never changes."""
        with self._lock:
            dates = {key: self._created[key] for key in originators if key in self._created}
        missing = [key for key in originators if key not in dates]
        rows = (
            connection.execute(
                """
                SELECT originator_id, state FROM events
                WHERE partition = %s AND originator_id = ANY(%s) AND originator_version = 1
                """,
                (partition, missing),
            ).fetchall()
            if missing
            else []
        )
        found = {
            row["originator_id"]: timestamps.parse(json.loads(row["state"])["timestamp"])
            for row in rows
        }
        for key in missing:
            if key not in found:
                raise LedgerCorrupt(f"{key} in partition {partition}", "it has no first event")
        with self._lock:
            self._created.update(found)
        return dates | found


@dataclass(frozen=True, slots=True)
class _Instances:
    """The app's installations on the sites in question, ended ones too."""

    by_site: Mapping[UUID, Sequence[dict[str, Any]]]

    @classmethod
    def load(
        cls, connection: Connection, span: Span, events: Sequence[RecordedEvent]
    ) -> _Instances:
        if not events:
            return cls({})
        rows = connection.execute(
            """
            SELECT site_id, instance_id, after_position, until_position FROM installations
            WHERE app_id = %s AND partition = %s AND site_id = ANY(%s)
            """,
            (span.app_id, span.partition, list({UUID(event.facts["site_id"]) for event in events})),
        ).fetchall()
        by_site: dict[UUID, list[dict[str, Any]]] = {}
        for row in rows:
            by_site.setdefault(row["site_id"], []).append(row)
        return cls(by_site)

    def at(self, event: RecordedEvent) -> UUID | None:
        """The installation on the event's site at the event's position."""
        for row in self.by_site.get(UUID(event.facts["site_id"]), ()):
            until = row["until_position"]
            if row["after_position"] < event.position and (
                until is None or event.position <= until
            ):
                instance_id: UUID = row["instance_id"]
                return instance_id
        return None


def _known(
    events: Sequence[RecordedEvent], span: Span
) -> tuple[Sequence[RecordedEvent], UnknownTopic | None]:
    """The events up to the first that this program cannot understand, and what that one is."""
    for index, event in enumerate(events):
        place = f"partition {event.partition}, position {event.position}"
        if event.topic not in (CREATED_TOPIC, CHANGED_TOPIC):
            return events[:index], UnknownTopic(event.topic, place)
        kind = event.facts["kind"]
        if kind not in KINDS and span.event_type.startswith(f"{kind}_"):
            return events[:index], UnknownTopic(f"{event.topic} of {kind}", place)
    return events, None


def _is_for(event: RecordedEvent, span: Span) -> bool:
    if event.topic != CHANGED_TOPIC:
        return False
    if span.sites is not None and UUID(event.facts["site_id"]) not in span.sites:
        return False
    kind = KINDS.get(event.facts["kind"])
    return kind is not None and kind.event_type == span.event_type


def _letter(
    event: RecordedEvent, instance_id: UUID, created: datetime, actors: dict[UUID, Identity]
) -> Letter:
    facts = event.facts
    data = webhook_data(
        facts,
        KINDS[facts["kind"]],
        version=event.originator_version,
        entity_id=event.originator_id,
        created=created,
        actor=actors.get(UUID(facts["actor"]["ref"])),
        instance_id=instance_id,
    )
    return Letter(
        event.position,
        event.originator_id,
        event.originator_version,
        UUID(facts["site_id"]),
        facts["event_id"],
        data,
    )
