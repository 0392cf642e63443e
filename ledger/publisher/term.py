"""A term: everything a publisher does between taking the lease and giving it up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import structlog

from ledger.database import Connection
from ledger.publisher.attempts import Slots
from ledger.publisher.blocking import BlockingCalls
from ledger.publisher.deliver import Courier
from ledger.publisher.feed import Feed
from ledger.publisher.lanes import Tools
from ledger.publisher.lease import Lease
from ledger.publisher.letters import LetterReader
from ledger.publisher.policy import Policies
from ledger.publisher.spans import FeedKey, Span, load_spans, take
from ledger.publisher.state import Progress, WaitingSite, load_waiting, write

log = structlog.get_logger(__name__)

GRACE = 0.5
"""Seconds that requests in flight get where a feed ends."""


class Term:
    """Keeps a feed for every subscription and partition, and writes down how far they got.

    ``sweep`` and ``checkpoint`` use the lease's connection, so the one that loses the lease
    finds out by DatabaseUnavailable, at the latest at the next sweep. They are called by one
    task, one after the other.
    """

    def __init__(
        self,
        lease: Lease,
        reader: LetterReader,
        courier: Courier,
        policies: Policies,
        blocking: BlockingCalls,
    ) -> None:
        self._lease = lease
        self._blocking = blocking
        self._policies = policies
        self._changed = asyncio.Event()
        self._tools = Tools(reader, courier, blocking, self._changed.set)
        self._feeds: dict[FeedKey, Feed] = {}
        self._slots: dict[UUID, Slots] = {}
        self._ended: list[Progress] = []

    @property
    def quiet(self) -> bool:
        """Whether no feed has anything to do before time passes or the log grows."""
        return all(feed.quiet for feed in self._feeds.values())

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

    async def sweep(self) -> None:
        """Look at heads and subscriptions: begin new feeds, wake those behind, end those over.

        Raises what broke a feed: the next term begins again from what was written.
        """
        for feed in self._feeds.values():
            if feed.failure is not None:
                raise feed.failure
        spans = await self._blocking.run(self._lease.transact, load_spans)
        await self._end_those_over({span.key: span for span in spans})
        for span in spans:
            if span.key in self._feeds:
                self._feeds[span.key].update(span)
        wanted = [s.key for s in spans if s.key not in self._feeds and not s.paused]
        if wanted:
            begun, waiting = await self._blocking.run(
                self._lease.transact, lambda connection: _take(connection, wanted)
            )
            for span in begun:
                self._begin(span, [site for site in waiting if _key(site) == span.key])

    async def checkpoint(self) -> None:
        """Write down what changed since the last time, in one transaction."""
        progress = self._ended + [feed.collect() for feed in self._feeds.values()]
        self._ended = []
        changed = [one for one in progress if one]
        if not changed:
            return
        lost = await self._blocking.run(
            self._lease.transact, lambda connection: write(connection, changed)
        )
        log.info(
            "publisher checkpoint",
            received=sum(one.received for one in changed),
            failed=sum(one.failed for one in changed),
            dead=sum(len(one.dead) for one in changed),
            waiting=sum(feed.waiting for feed in self._feeds.values()),
            lost=len(lost),
        )

    async def close(self, grace: float = 0.0) -> None:
        """Send nothing more. Requests in flight get ``grace`` seconds; then all stops."""
        await asyncio.gather(*(feed.retire(grace) for feed in self._feeds.values()))
        await asyncio.gather(*(feed.close() for feed in self._feeds.values()))

    def _begin(self, span: Span, waiting: Sequence[WaitingSite]) -> None:
        policy = self._policies.of(span.choices)
        slots = self._slots.setdefault(span.subscription_id, Slots(policy))
        self._feeds[span.key] = Feed(span, waiting, policy, slots, self._tools)

    async def _end_those_over(self, spans: dict[FeedKey, Span]) -> None:
        """End feeds that are gone, paused, taken over or to be served in another way."""
        over = [
            key
            for key, feed in self._feeds.items()
            if key not in spans or not feed.stands(spans[key])
        ]
        if not over:
            return
        await asyncio.gather(*(self._feeds[key].retire(GRACE) for key in over))
        for key in over:
            feed = self._feeds.pop(key)
            await feed.close()
            progress = feed.collect()
            progress.forgotten = key not in spans
            self._ended.append(progress)
            self._slots.pop(feed.span.subscription_id, None)
        # Written before any of them begins again.
        await self.checkpoint()


def _take(
    connection: Connection, keys: Sequence[FeedKey]
) -> tuple[Sequence[Span], Sequence[WaitingSite]]:
    """Become the only one who writes these feeds' progress, and look where they stand."""
    wanted = set(keys)
    take(connection, [span for span in load_spans(connection) if span.key in wanted])
    spans = [span for span in load_spans(connection) if span.key in wanted and not span.paused]
    return spans, load_waiting(connection, keys)


def _key(site: WaitingSite) -> FeedKey:
    return site.feed_id, site.partition
