"""A term: everything a publisher does between taking the lease and giving it up."""

from __future__ import annotations

import asyncio
from uuid import UUID

import structlog

from ledger.database import Connection
from ledger.publisher.attempts import Attempts, Slots
from ledger.publisher.blocking import BlockingCalls
from ledger.publisher.deliver import Courier
from ledger.publisher.feed import Feed
from ledger.publisher.lanes import Tools
from ledger.publisher.lease import Lease
from ledger.publisher.letters import LetterReader
from ledger.publisher.policy import Policy
from ledger.publisher.state import (
    Checkpoint,
    FeedKey,
    Span,
    WaitingSite,
    load_spans,
    load_waiting,
    write,
)

log = structlog.get_logger(__name__)


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
        policy: Policy,
        blocking: BlockingCalls,
    ) -> None:
        self._lease = lease
        self._blocking = blocking
        self._changed = asyncio.Event()
        self._tools = Tools(reader, Attempts(courier), policy, blocking, self._changed.set)
        self._feeds: dict[FeedKey, Feed] = {}
        self._slots: dict[UUID, Slots] = {}
        self._forgotten: list[FeedKey] = []

    @property
    def quiet(self) -> bool:
        """Whether no feed has anything to do before time passes or the log grows."""
        return all(feed.quiet for feed in self._feeds.values())

    @property
    def stopped(self) -> list[FeedKey]:
        """Feeds that met an event that this program does not understand."""
        return [key for key, feed in self._feeds.items() if feed.stopped]

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
        known = set(self._feeds)
        spans, waiting = await self._blocking.run(
            self._lease.transact, lambda connection: _look(connection, known)
        )
        for span in spans:
            if span.key in self._feeds:
                self._feeds[span.key].update(span)
            else:
                slots = self._slots.setdefault(span.subscription_id, Slots(self._tools.policy))
                sites = [site for site in waiting if _key(site) == span.key]
                self._feeds[span.key] = Feed(span, sites, slots, self._tools)
        for key in known - {span.key for span in spans}:
            await self._end(key)

    async def checkpoint(self) -> None:
        """Write down what changed since the last time, in one transaction."""
        checkpoint = Checkpoint(forgotten=self._forgotten)
        self._forgotten = []
        for feed in self._feeds.values():
            feed.collect(checkpoint)
        if not checkpoint:
            return
        await self._blocking.run(
            self._lease.transact, lambda connection: write(connection, checkpoint)
        )
        log.info(
            "publisher checkpoint",
            received=checkpoint.received,
            failed=checkpoint.failed,
            dead=len(checkpoint.dead),
            waiting=sum(feed.waiting for feed in self._feeds.values()),
        )

    async def close(self, grace: float = 0.0) -> None:
        """Send nothing more. Requests in flight get ``grace`` seconds; then all stops."""
        await self._tools.attempts.close(grace)
        await asyncio.gather(*(feed.close() for feed in self._feeds.values()))

    async def _end(self, key: FeedKey) -> None:
        feed = self._feeds.pop(key)
        await feed.close()
        self._forgotten.append(key)
        if all(key[0] != other[0] for other in self._feeds):
            self._slots.pop(key[0], None)


def _look(connection: Connection, known: set[FeedKey]) -> tuple[list[Span], list[WaitingSite]]:
    spans = load_spans(connection)
    new = [span.key for span in spans if span.key not in known]
    return spans, load_waiting(connection, new) if new else []


def _key(site: WaitingSite) -> FeedKey:
    return site.subscription_id, site.partition
