"""The publisher: follows the log and sends every event to whoever subscribed to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import structlog

from ledger.database import Database
from ledger.errors import LedgerError
from ledger.publisher.bell import Bell
from ledger.publisher.blocking import BlockingCalls
from ledger.publisher.deliver import Courier
from ledger.publisher.guard import Network
from ledger.publisher.lease import Lease
from ledger.publisher.letters import LetterReader
from ledger.publisher.policy import ORDERED_DELAYS, Policy
from ledger.publisher.sign import KeyRack, Keys
from ledger.publisher.term import Term

log = structlog.get_logger(__name__)

CHECKPOINT_INTERVAL = 0.2
"""Seconds between writes of progress: what a crash makes receivers get twice."""

GRACE = 0.5
"""Seconds that requests in flight get when the publisher is asked to stop."""


class Publisher:
    """Delivers at least once, in version order per site; one process at a time does.

    ``directory`` is asked for signing keys. ``allowed_networks`` are private networks that
    may receive. ``schedule`` gives the seconds to wait after each failed attempt, ``timeout``
    those of one attempt, ``poll_interval`` how long a lost doorbell can delay an event.
    """

    def __init__(
        self,
        database: Database,
        directory: Keys,
        *,
        allowed_networks: Iterable[Network] = (),
        schedule: Sequence[float] = ORDERED_DELAYS,
        timeout: float = 10.0,
        poll_interval: float = 0.25,
    ) -> None:
        self._database = database
        self._keys = KeyRack(directory)
        self._reader = LetterReader(database)
        self._allowed_networks = tuple(allowed_networks)
        self._policy = Policy(delays=tuple(schedule), timeout=timeout)
        self._poll_interval = poll_interval

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until ``stop`` is set.

        Waits while another process publishes, and takes over when that one goes. Trouble with
        the database ends a term, never the run.
        """
        bell = Bell(self._database)
        stopping = asyncio.ensure_future(_ring_at(stop, bell))
        waiting = False
        try:
            while not stop.is_set():
                try:
                    served = await self._serve(bell, stop)
                except LedgerError as error:
                    log.warning("publisher waits", problem=str(error))
                    served = True
                except Exception:
                    log.exception("publisher failed and begins again")
                    served = True
                if not served and not waiting:
                    log.info("publisher waits for the one that publishes now")
                waiting = not served
                if not stop.is_set():
                    await bell.wait(self._poll_interval)
        finally:
            stopping.cancel()
            bell.close()

    @asynccontextmanager
    async def term(self) -> AsyncIterator[Term | None]:
        """A term that the caller takes step by step; None while another process publishes.

        Leaving it gives requests in flight a moment, writes progress and lets the next one
        take over; leaving it by an error writes nothing.
        """
        blocking = BlockingCalls()
        try:
            lease = await blocking.run(Lease.acquire, self._database)
            if lease is None:
                yield None
                return
            try:
                async with Courier(
                    self._keys, self._policy, self._allowed_networks, blocking
                ) as courier:
                    term = Term(lease, self._reader, courier, self._policy, blocking)
                    try:
                        yield term
                        await term.close(GRACE)
                        await term.checkpoint()
                    finally:
                        await term.close(0)
            finally:
                lease.release()
        finally:
            blocking.close()

    async def _serve(self, bell: Bell, stop: asyncio.Event) -> bool:
        """Follow the log for one term. False where another process holds the lease."""
        async with self.term() as term:
            if term is None:
                return False
            log.info("publisher took the lease")
            clock = asyncio.get_running_loop().time
            written = clock()
            while not stop.is_set():
                await term.sweep()
                if clock() - written >= CHECKPOINT_INTERVAL:
                    await term.checkpoint()
                    written = clock()
                await bell.wait(self._poll_interval)
        return True


async def _ring_at(stop: asyncio.Event, bell: Bell) -> None:
    await stop.wait()
    bell.ring()
