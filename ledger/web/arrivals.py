"""The doorbell as waiting requests hear it: one connection listens for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ledger.database import Database
from ledger.publisher.bell import Bell

UNHEARD_SECONDS = 1.0
"""After so long a request looks by itself: a ring that is lost costs no more than this."""


class Arrivals:
    """Wakes requests when events were committed. Listens only while somebody waits."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: set[asyncio.Event] = set()
        self._listening: asyncio.Task[None] | None = None

    @contextmanager
    def heard(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever there may be something to read, from now on.

        Whoever clears it before looking misses nothing.
        """
        rung = asyncio.Event()
        self._waiting.add(rung)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())
        try:
            yield rung
        finally:
            self._waiting.discard(rung)

    async def _listen(self) -> None:
        bell = Bell(self._database)
        try:
            while self._waiting:
                await bell.wait(UNHEARD_SECONDS)
                for rung in self._waiting:
                    rung.set()
        finally:
            bell.close()


async def until_rung(rung: asyncio.Event, seconds: float) -> None:
    """Return when it rings, or after ``seconds``."""
    with suppress(TimeoutError):
        await asyncio.wait_for(rung.wait(), seconds)
