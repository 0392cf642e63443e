"""A term: everything a publisher does between taking the lease and giving it up."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, date, datetime
from uuid import UUID

from ledger.database import Connection
from ledger.publisher.attempts import Slots
from ledger.publisher.batchlog import log_batches
from ledger.publisher.blocking import BlockingCalls
from ledger.publisher.breaker import PROBES
from ledger.publisher.deliver import Courier
from ledger.publisher.feed import Feed
from ledger.publisher.journal import forget_old_attempts
from ledger.publisher.lanes import Tools
from ledger.publisher.lease import Lease
from ledger.publisher.letters import LetterReader
from ledger.publisher.metrics import FENCED
from ledger.publisher.policy import Policies
from ledger.publisher.spans import (
    FeedKey,
    Span,
    Tide,
    give_back,
    living_publishers,
    load_spans,
    load_tide,
    take,
)
from ledger.publisher.state import Progress, WaitingSite, load_waiting, write

GRACE = 0.5
"""Seconds that requests in flight get where a feed ends, unless more is asked for."""


class Term:
    """Keeps this process's share of the feeds, and writes down how far they got.

    ``sweep``, ``glance`` and ``checkpoint`` use the lease's connection, so the one that loses the lease
    finds out by LeaseLost or DatabaseUnavailable, at the latest at the next sweep. They are
    called by one task, one after the other.
    """

    def __init__(
        self,
        lease: Lease,
        reader: LetterReader,
        courier: Courier,
        policies: Policies,
        blocking: BlockingCalls,
        grace: float = GRACE,
        probes: Sequence[float] = PROBES,
        hurry: Callable[[], None] | None = None,
    ) -> None:
        self._probes = probes
        self._grace = grace
        self._hurry = hurry
        self._lease = lease
        self._blocking = blocking
        self._policies = policies
        self._changed = asyncio.Event()
        self._tools = Tools(reader, courier, blocking, self._changed.set, lease.holds_for)
        self._feeds: dict[FeedKey, Feed] = {}
        self._slots: dict[UUID, Slots] = {}
        self._ended: list[Progress] = []
        self._ended_subscriptions = 0
        self.fenced = 0
        self._tidied: date | None = None

    @property
    def quiet(self) -> bool:
        """Whether no feed has anything to do before time passes or the log grows."""
        return all(feed.quiet for feed in self._feeds.values())

    @property
    def feeds(self) -> list[FeedKey]:
        """The feeds that this process has taken on."""
        return list(self._feeds)

    @property
    def asks(self) -> bool:
        """Whether any feed has something that it wants to send."""
        return any(feed.pending_sites for feed in self._feeds.values())

    @property
    def stopped(self) -> list[FeedKey]:
        """Feeds that met an event that this program does not understand."""
        return [key for key, feed in self._feeds.items() if feed.stopped]

    def idle_but(self, pending: int) -> bool:
        """Whether all that was read is done with, but for so many of a window's sites."""
        return all(feed.pending_sites <= pending for feed in self._feeds.values())

    async def settled(self) -> None:
        """Wait until every feed is quiet."""
        while not self.quiet:
            self._changed.clear()
            await self._changed.wait()

    async def glance(self) -> None:
        """Look at heads only, and wake the feeds behind; ``sweep`` where subscriptions ended."""
        tide = await self._blocking.run(self._lease.ask, self._look_at_tide)
        if self._ended_subscriptions != tide.ended:
            await self.sweep()
            return
        for (_, partition), feed in self._feeds.items():
            feed.grow(tide.heads.get(partition, 0))

    async def sweep(self) -> None:
        """Look at heads and subscriptions: begin new feeds, wake those behind, end those over.

        Raises what broke a feed: the next term begins again from what was written.
        """
        for feed in self._feeds.values():
            if feed.failure is not None:
                raise feed.failure
        tide, spans, publishers = await self._blocking.run(self._lease.transact, self._look)
        self._ended_subscriptions = tide.ended
        self._share(spans)
        await self._end_those_over({span.key: span for span in spans})
        for span in spans:
            if span.key in self._feeds:
                self._feeds[span.key].update(span)
        share = math.ceil(sum(not span.paused for span in spans) / max(publishers, 1))
        if len(self._feeds) > share:
            await self._end(list(self._feeds)[share:])
            return
        free = [span for span in spans if self._is_free(span)][: share - len(self._feeds)]
        if free:
            begun, waiting = await self._blocking.run(
                self._lease.transact, lambda connection: self._take(connection, free)
            )
            for span in begun:
                self._begin(span, [site for site in waiting if _key(site) == span.key])
            self._share([*spans, *begun])

    def _share(self, spans: Iterable[Span]) -> None:
        """Divide each limit per second among the processes that have feeds of the subscription."""
        owners: dict[UUID, set[UUID]] = {}
        for span in spans:
            if span.per_second is not None and span.owner is not None:
                owners.setdefault(span.subscription_id, set()).add(span.owner)
        for subscription_id, slots in self._slots.items():
            slots.share(len(owners.get(subscription_id, ())))

    def _look_at_tide(self, connection: Connection) -> Tide:
        self._lease.renew(connection)
        return load_tide(connection)

    def _look(self, connection: Connection) -> tuple[Tide, list[Span], int]:
        # The tide first: an end that comes in between is one more than it knows.
        tide = self._look_at_tide(connection)
        return tide, load_spans(connection), living_publishers(connection)

    def _is_free(self, span: Span) -> bool:
        mine = span.owner == self._lease.publisher_id
        return span.key not in self._feeds and not span.paused and (mine or span.owner is None)

    def _take(
        self, connection: Connection, free: Sequence[Span]
    ) -> tuple[Sequence[Span], Sequence[WaitingSite]]:
        """Take feeds on, and look where they stand now that nobody else can move them."""
        taken = take(connection, free, self._lease.publisher_id)
        spans = [span for span in load_spans(connection) if span.key in taken]
        return spans, load_waiting(connection, list(taken))

    async def checkpoint(self) -> None:
        """Write down what changed since the last time, in one transaction."""
        progress = self._ended + [feed.collect() for feed in self._feeds.values()]
        self._ended = []
        received = [(slots, slots.collect()) for slots in self._slots.values()]
        changed = [one for one in progress if one]
        if not changed:
            return
        lost = await self._blocking.run(
            self._lease.transact, lambda connection: write(connection, changed)
        )
        for slots, count in received:
            slots.written(count)
        self.fenced += len(lost)
        FENCED.inc(len(lost))
        log_batches(changed, lost)
        today = datetime.now(UTC).date()
        if today != self._tidied:
            self._tidied = today
            await self._blocking.run(self._lease.transact, forget_old_attempts)

    async def close(self, grace: float = 0.0) -> None:
        """Send nothing more. Requests in flight get ``grace`` seconds; then all stops."""
        await asyncio.gather(*(feed.retire(grace) for feed in self._feeds.values()))
        await asyncio.gather(*(feed.close() for feed in self._feeds.values()))

    def _begin(self, span: Span, waiting: Sequence[WaitingSite]) -> None:
        policy = self._policies.of(span.choices)
        slots = self._slots.setdefault(
            span.subscription_id, Slots(policy, self._probes, self._hurry)
        )
        self._feeds[span.key] = Feed(span, waiting, policy, slots, self._tools)

    async def _end_those_over(self, spans: dict[FeedKey, Span]) -> None:
        """End feeds that are gone, paused, taken over or to be served in another way."""
        over = [
            key
            for key, feed in self._feeds.items()
            if key not in spans or not feed.stands(spans[key])
        ]
        if over:
            await self._end(over, forgotten={key for key in over if key not in spans})

    async def _end(self, keys: Sequence[FeedKey], forgotten: Collection[FeedKey] = ()) -> None:
        """Let requests under way end, write how far these feeds got, and leave them."""
        await asyncio.gather(*(self._feeds[key].retire(self._grace) for key in keys))
        for key in keys:
            feed = self._feeds.pop(key)
            await feed.close()
            progress = feed.collect()
            progress.forgotten = key in forgotten
            self._ended.append(progress)
        await self.checkpoint()
        in_use = {feed.span.subscription_id for feed in self._feeds.values()}
        self._slots = {key: slots for key, slots in self._slots.items() if key in in_use}
        await self._blocking.run(
            self._lease.transact,
            lambda connection: give_back(connection, keys, self._lease.publisher_id),
        )


def _key(site: WaitingSite) -> FeedKey:
    return site.feed_id, site.partition
