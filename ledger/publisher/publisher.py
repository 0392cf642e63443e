"""The publisher: follows the log and sends every event to whoever subscribed to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

import structlog

from ledger.database import Database
from ledger.errors import LedgerError
from ledger.publisher.bell import Bell
from ledger.publisher.blocking import BlockingCalls
from ledger.publisher.breaker import PROBES
from ledger.publisher.deliver import Courier
from ledger.publisher.guard import Network
from ledger.publisher.lease import LEASE, Lease
from ledger.publisher.letters import LetterReader
from ledger.publisher.policy import Policies
from ledger.publisher.sign import KeyRack, Keys
from ledger.publisher.term import GRACE, Term

log = structlog.get_logger(__name__)

CHECKPOINT_INTERVAL = 0.2
"""Seconds between writes of progress, unless so much was received that sending must wait."""

SWEEPING = 0.1
"""The part of the time, at most, that goes into looking at all subscriptions.

A doorbell or the poll interval makes it look at the heads only, which costs the same for any
number of subscriptions.
"""

LONGEST_PAUSE = 2.0
"""Seconds between attempts to begin again, at most."""


class Publisher:
    """Delivers at least once, in version order per site; processes share the feeds.

    ``directory`` is asked for signing keys. ``allowed_networks`` are private networks that
    may receive. ``schedule`` (the seconds to wait after each failed attempt) and ``timeout``
    (those of one attempt) replace the policies' own; ``poll_interval`` how long a lost doorbell can delay an event.
    ``lease`` is how many seconds a process that stands still keeps its feeds, ``grace`` how
    many requests in flight get when it is asked to stop; ``probes`` when an endpoint that
    failed as a whole is tried again.
    """

    def __init__(
        self,
        database: Database,
        directory: Keys,
        *,
        allowed_networks: Iterable[Network] = (),
        schedule: Sequence[float] | None = None,
        timeout: float | None = None,
        poll_interval: float = 0.25,
        lease: float = LEASE,
        grace: float = GRACE,
        probes: Sequence[float] = PROBES,
    ) -> None:
        self._probes = tuple(probes)
        self._publisher_id = uuid4()
        self._lease_seconds = lease
        self._grace = grace
        self._database = database
        self._keys = KeyRack(directory)
        self._reader = LetterReader(database)
        self._allowed_networks = tuple(allowed_networks)
        self._policies = Policies(schedule, timeout)
        self._poll_interval = poll_interval
        self._trouble = _Trouble(poll_interval)

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until ``stop`` is set.

        Takes a fair share of the feeds, and those of a process that goes. Trouble with the
        database ends a term, never the run.
        """
        bell = Bell(self._database)
        stopping = asyncio.ensure_future(_ring_at(stop, bell))
        try:
            while not stop.is_set():
                try:
                    await self._serve(bell, stop)
                except LedgerError as error:
                    self._trouble.note(error)
                except Exception:
                    log.exception("publisher failed and begins again")
                await _pause(stop, self._trouble.pause())
        finally:
            stopping.cancel()
            bell.close()

    @asynccontextmanager
    async def term(self, hurry: Callable[[], None] | None = None) -> AsyncIterator[Term]:
        """A term that the caller takes step by step, beside those of other processes.

        ``hurry`` is called when progress must be written before more can be sent; without it,
        more is sent in any case.

        Leaving it gives requests in flight a moment, writes progress and lets others take
        over; leaving it by an error writes nothing.
        """
        blocking = BlockingCalls()
        try:
            lease = await blocking.run(
                Lease.open, self._database, self._publisher_id, self._lease_seconds
            )
            try:
                async with self._term(lease, blocking, hurry) as term:
                    yield term
            finally:
                lease.release()
        finally:
            blocking.close()

    @asynccontextmanager
    async def _term(
        self, lease: Lease, blocking: BlockingCalls, hurry: Callable[[], None] | None
    ) -> AsyncIterator[Term]:
        async with Courier(self._keys, self._allowed_networks, blocking) as courier:
            term = Term(
                lease,
                self._reader,
                courier,
                self._policies,
                blocking,
                self._grace,
                self._probes,
                hurry,
            )
            try:
                yield term
                await term.close(self._grace)
                await term.checkpoint()
            finally:
                await term.close(0)

    async def _serve(self, bell: Bell, stop: asyncio.Event) -> None:
        """Follow the log for as long as the lease is held."""
        hurried = asyncio.Event()

        def hurry() -> None:
            hurried.set()
            bell.wake()

        async with self.term(hurry) as term:
            log.info("publisher begins", publisher=str(self._publisher_id))
            await self._follow(term, bell, stop, hurried)

    async def _follow(
        self, term: Term, bell: Bell, stop: asyncio.Event, hurried: asyncio.Event
    ) -> None:
        clock = asyncio.get_running_loop().time
        written = swept = clock()
        pause, grown = 0.0, True
        while not stop.is_set():
            if clock() - swept >= pause:
                swept = clock()
                await term.sweep()
                pause = max(self._poll_interval, (clock() - swept) / SWEEPING)
                self._trouble.over()
            elif grown:
                await term.glance()
            if hurried.is_set() or clock() - written >= CHECKPOINT_INTERVAL:
                hurried.clear()
                written = clock()
                await term.checkpoint()
            grown = await bell.wait(self._poll_interval)


class _Trouble:
    """What keeps the publisher from its work: said when it changes, tried again ever more slowly."""

    def __init__(self, shortest: float) -> None:
        self._shortest = self._pause = shortest
        self._said: str | None = None

    def note(self, error: LedgerError) -> None:
        """It goes on, or begins."""
        if str(error) != self._said:
            self._said = str(error)
            log.warning("publisher waits", problem=self._said)

    def pause(self) -> float:
        """Seconds until the next attempt; twice as many each time."""
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return pause

    def over(self) -> None:
        """The database answers."""
        if self._said is not None:
            log.info("publisher goes on")
        self._said, self._pause = None, self._shortest


async def _ring_at(stop: asyncio.Event, bell: Bell) -> None:
    await stop.wait()
    bell.ring()


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but not when stopping."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
