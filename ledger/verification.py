"""Proof that the log holds together: every event refolded and compared with what is served."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from ledger import actors, eventlog, timestamps
from ledger.aggregate import (
    CHANGED_TOPIC,
    CREATED_TOPIC,
    SettingsRecord,
    Token,
    originator_id,
)
from ledger.canonical import canonical_bytes, leaf_hash
from ledger.database import Connection, Database
from ledger.errors import LedgerCorrupt, UnknownTopic
from ledger.eventlog import RecordedEvent
from ledger.settings import changes_between, same_value

PAGE = 2000
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Report:
    """What a verification covered, and the first fault it found."""

    events: int
    sites: int
    fault: str | None = None


class CurrentPages(Protocol):
    """Where the current settings are read, page by page."""

    def page(
        self, connection: Connection, partition: int, after: UUID | None, limit: int
    ) -> dict[UUID, SettingsRecord]:
        """Up to ``limit`` records behind the originator ``after``, by originator."""


def verify(
    database: Database,
    partitions: Iterable[int],
    current: CurrentPages,
    progress: Progress | None = None,
) -> Report:
    """Refold every partition: positions, versions, leaf chain, timestamps, settings in events,
    kept names and reasons, and current settings. Stops at the first fault; what is appended
    meanwhile is left out.

    The leaves chain each site's events. That two events of different sites changed places,
    neither being its site's newest, is beyond what they can show.
    """
    events = sites = 0
    for partition in partitions:
        refold = Refold(partition)
        try:
            with database.connection() as connection:
                # One snapshot for log and current rows, however long it takes.
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                _refold_log(connection, refold, progress)
                _compare_current(connection, refold, current)
        except (LedgerCorrupt, UnknownTopic) as fault:
            return Report(events + refold.position, sites + len(refold.standing), str(fault))
        events += refold.position
        sites += len(refold.standing)
    return Report(events, sites)


def _refold_log(connection: Connection, refold: Refold, progress: Progress | None) -> None:
    total = eventlog.head(connection, refold.partition)
    while True:
        page = eventlog.read_after(connection, refold.partition, refold.position, PAGE)
        for event in page:
            refold.take(event)
        _compare_kept(connection, refold.partition, page)
        if progress is not None:
            progress(refold.position, total)
        if not page:
            return


def _compare_kept(connection: Connection, partition: int, events: Sequence[RecordedEvent]) -> None:
    """Hold the names and reasons beside the log to what the events commit to."""
    tokens = [(event, token) for event in events for token in _tokens(event)]
    broken = actors.broken_commitments(connection, partition, [token for _, token in tokens])
    for event, token in tokens:
        if token["ref"] in broken:
            raise LedgerCorrupt(
                f"partition {partition}, position {event.position}",
                "the name or reason that is kept is not what the event commits to",
            )


def _tokens(event: RecordedEvent) -> list[Token]:
    names = ("actor", "on_behalf_of", "reason")
    return [event.facts[name] for name in names if name in event.facts]


def _compare_current(connection: Connection, refold: Refold, current: CurrentPages) -> None:
    unseen = set(refold.standing)
    after: UUID | None = None
    while page := current.page(connection, refold.partition, after, PAGE):
        for after, record in page.items():
            folded = refold.standing.get(after)
            # Also by their bytes: to Python true is 1, to whoever reads the settings it is not.
            if folded != record or not same_value(folded.settings, record.settings):
                raise LedgerCorrupt(
                    f"site {record.site_id}, {record.kind}",
                    f"the current settings (version {record.version}) are not what the log gives",
                )
            unseen.discard(after)
    for originator in unseen:
        record = refold.standing[originator]
        raise LedgerCorrupt(f"site {record.site_id}, {record.kind}", "no current settings are kept")


class Refold:
    """A partition folded anew, event by event, from nothing but the log."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.position = 0
        self.standing: dict[UUID, SettingsRecord] = {}

    def take(self, event: RecordedEvent) -> None:
        """Fold the next event. Raises LedgerCorrupt where it does not follow."""
        place = f"partition {self.partition}, position {event.position}"
        if event.position != self.position + 1:
            raise LedgerCorrupt(place, f"follows position {self.position}: there is a gap")
        before = self.standing.get(event.originator_id)
        problem = self._address_problem(event, before)
        if problem is None and event.topic not in (CREATED_TOPIC, CHANGED_TOPIC):
            raise UnknownTopic(event.topic, place)
        if problem is not None:
            raise LedgerCorrupt(place, problem)
        try:
            problem = _content_problem(event, before)
            folded = _folded(event, before)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise LedgerCorrupt(place, f"the stored facts cannot be read: {error!r}") from error
        if problem is not None:
            raise LedgerCorrupt(place, problem)
        self.position = event.position
        self.standing[event.originator_id] = folded

    def _address_problem(self, event: RecordedEvent, before: SettingsRecord | None) -> str | None:
        expected = before.version + 1 if before else 1
        if event.originator_version != expected:
            return f"has version {event.originator_version} where {expected} is next"
        leaf = leaf_hash(
            event.originator_id,
            event.originator_version,
            before.leaf_hash if before else None,
            event.topic,
            event.state,
        )
        if leaf != event.leaf_hash:
            return "the leaf hash does not bind this event to the one before it"
        return None


def _content_problem(event: RecordedEvent, before: SettingsRecord | None) -> str | None:
    facts = event.facts
    if canonical_bytes(facts) != event.state:
        return "the stored bytes are not canonical"
    if originator_id(UUID(facts["site_id"]), facts["kind"]) != event.originator_id:
        return "site and kind do not give the originator's id"
    if event.topic == CREATED_TOPIC:
        return None if before is None else "the site is created a second time"
    if before is None:
        return "a change comes before the creation"
    if timestamps.parse(facts["timestamp"]) <= before.updated:
        return "the timestamp does not move on"
    stated = {
        path: {end: ends[end] for end in ("from", "to") if end in ends}
        for path, ends in facts["changes"].items()
    }
    if not same_value(stated, changes_between(before.settings, facts["settings"])):
        return "the changes do not lead from the settings before to those that the event states"
    return None


def _folded(event: RecordedEvent, before: SettingsRecord | None) -> SettingsRecord:
    facts = event.facts
    moment = timestamps.parse(facts["timestamp"])
    return SettingsRecord(
        site_id=UUID(facts["site_id"]),
        kind=facts["kind"],
        version=event.originator_version,
        partition=event.partition,
        position=event.position,
        leaf_hash=event.leaf_hash,
        settings=facts["settings"],
        created=before.created if before else moment,
        updated=moment,
    )
