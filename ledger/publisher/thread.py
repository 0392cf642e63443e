"""A publisher in a thread of its own, beside a server."""

from __future__ import annotations

import asyncio
import threading
from typing import Self

import structlog

from ledger.publisher.publisher import Publisher

log = structlog.get_logger(__name__)


class PublisherThread:
    """Runs a publisher with its own event loop from ``start`` to ``stop``."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._begun = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(
            target=self._main, name="settings-ledger publisher", daemon=True
        )

    @property
    def running(self) -> bool:
        """Whether it publishes, or waits to."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin; returns once the loop runs."""
        self._thread.start()
        self._begun.wait()

    def stop(self, timeout: float | None = 5.0) -> None:
        """End within about a second: requests in flight get half of it, progress is written."""
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        self._thread.join(timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _main(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._begun.set()
        await self._publisher.run(self._stop)
