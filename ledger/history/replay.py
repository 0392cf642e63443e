"""Replaying the log: every change in order, page by page, however many there are."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from uuid import UUID

from ledger import eventlog, timestamps
from ledger.errors import InvalidInput
from ledger.history.changes import Change
from ledger.history.entries import Entry, EntryReader
from ledger.history.facts import Facts
from ledger.history.horizon import Horizon
from ledger.history.moments import Time, check_order, parse_since, parse_until
from ledger.history.sites import Sites, kinds_of, originators_of, sites_of
from ledger.settings import SettingsKind

PAGE = 1000
FEW_ORIGINATORS = 50
ORIGINATOR_PAGE = 50
"""Of so many sites each is read by its own index; more are found in the whole log."""

FromPosition = int | Mapping[int, int]


@dataclass(frozen=True)
class Span:
    """Positions ``first`` to ``last`` of a partition, inclusive; none where first is behind last."""

    partition: int
    first: int
    last: int


@dataclass(frozen=True)
class Batch:
    """What was found up to ``position`` of a partition; there may be nothing."""

    partition: int
    position: int
    entries: list[Entry]


@dataclass(frozen=True)
class Selection:
    """Part of the log: it ends where the log ended when it was selected.

    In the order of the log: one partition after the other, each by position. There is no
    order between partitions but that of clocks; this one can be resumed from any position,
    and a site's events are all on one partition.
    """

    horizon: Horizon
    spans: list[Span]
    since: datetime | None
    until: datetime | None
    originators: list[tuple[int, UUID]] | None
    kinds: set[str] | None

    @classmethod
    def of(
        cls,
        horizon: Horizon,
        known: Sites,
        from_position: FromPosition,
        since: Time | None,
        until: Time | None,
        sites: Iterable[UUID | str] | None,
        kinds: Iterable[SettingsKind | str] | None,
    ) -> Selection:
        """Check the options and fix the end. Raises InvalidInput and NotFound."""
        now = horizon.now()
        oldest = None if since is None else parse_since(since, "since", now)
        newest = None if until is None else parse_until(until, "until", now)
        check_order(oldest, newest)
        named = kinds_of(kinds)
        originators = originators_of(known, sites_of(sites), named)
        partitions = known.partitions()
        if originators is not None:
            partitions = sorted({partition for partition, _ in originators})
        first = _positions(from_position, partitions)
        if oldest is None and newest is None:
            heads = horizon.heads(partitions)
        else:
            heads = horizon.reach(partitions, newest)
        spans = [
            _span(horizon, Span(partition, first[partition], head), oldest, newest)
            for partition, head in heads.items()
        ]
        fqdns = None if named is None else {kind.fqdn for kind in named}
        return cls(horizon, spans, oldest, newest, originators, fqdns)

    @property
    def events(self) -> int:
        """How many positions will be looked at."""
        return sum(max(span.last - span.first + 1, 0) for span in self.spans)

    def __iter__(self) -> Iterator[Change]:
        for batch in self.batches():
            yield from map(Change.of, batch.entries)

    def batches(self) -> Iterator[Batch]:
        """What was recorded, some at a time, with how far each batch got."""
        for span in self.spans:
            here = [key for partition, key in self.originators or () if partition == span.partition]
            if self.originators is None or len(here) > FEW_ORIGINATORS:
                events = self._whole(span)
            else:
                streams = [self._originator(span, key) for key in here]
                events = heapq.merge(*streams, key=lambda event: event.position)
            wanted = None if self.originators is None else set(here)
            yield from _ahead(self._batches(span, events, wanted))

    def _batches(
        self, span: Span, events: Iterator[eventlog.RecordedEvent], wanted: set[UUID] | None
    ) -> Iterator[Batch]:
        reader = EntryReader(self.horizon.database)
        while page := list(islice(events, PAGE)):
            found = page if wanted is None else [one for one in page if one.originator_id in wanted]
            entries = reader.read(span.partition, found, self._matches)
            yield Batch(span.partition, page[-1].position, entries)
        yield Batch(span.partition, max(span.last, span.first - 1), [])

    def _matches(self, facts: Facts) -> bool:
        if self.kinds is not None and facts.kind not in self.kinds:
            return False
        if self.since is None and self.until is None:
            return True
        at = timestamps.parse(facts.timestamp)
        return (self.since is None or at >= self.since) and (self.until is None or at <= self.until)

    def _whole(self, span: Span) -> Iterator[eventlog.RecordedEvent]:
        position = span.first - 1
        while position < span.last:
            with self.horizon.database.connection() as connection:
                page = eventlog.read_between(
                    connection, span.partition, position, PAGE, stop=span.last
                )
            if not page:
                return
            position = page[-1].position
            yield from page

    def _originator(self, span: Span, key: UUID) -> Iterator[eventlog.RecordedEvent]:
        version = 0
        while True:
            with self.horizon.database.connection() as connection:
                page = eventlog.read_originator(
                    connection,
                    span.partition,
                    key,
                    from_version=version + 1,
                    limit=ORIGINATOR_PAGE,
                )
            for event in page:
                if event.position > span.last:
                    return
                if event.position >= span.first:
                    yield event
            if len(page) < ORIGINATOR_PAGE:
                return
            version = page[-1].originator_version


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same; the next one is on its way while this one is worked on."""
    with ThreadPoolExecutor(1, "ledger replay") as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch


def _positions(from_position: FromPosition, partitions: list[int]) -> dict[int, int]:
    given = (
        dict.fromkeys(partitions, from_position)
        if isinstance(from_position, int)
        else dict(from_position)
    )
    for partition, position in given.items():
        if isinstance(position, bool) or position < 0:
            raise InvalidInput("from_position", "positions are numbered from 1")
        if partition not in partitions and not isinstance(from_position, int):
            raise InvalidInput("from_position", f"there is no partition {partition} to read")
    return {partition: max(given.get(partition, 1), 1) for partition in partitions}


def _span(horizon: Horizon, span: Span, since: datetime | None, until: datetime | None) -> Span:
    """The part of ``span`` in which the times can be."""
    if since is None and until is None:
        return span
    with horizon.database.connection() as connection:
        found = horizon.table.positions(connection, span.partition, since, until)
    if found is None:
        return Span(span.partition, span.first, span.first - 1)
    return Span(span.partition, max(span.first, found[0]), min(span.last, found[1]))
