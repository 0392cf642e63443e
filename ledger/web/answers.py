"""Answers of the writer as requests wait for them: one wake-up of their loop for a whole batch."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Answers(Generic[Answer]):
    """Brings what other threads answer to one event loop.

    asyncio's own bridge wakes the loop once for each future, and costs four times as much.
    """

    def __init__(self) -> None:
        self._given: deque[tuple[asyncio.Future[Answer], Future[Answer]]] = deque()
        self._called: asyncio.AbstractEventLoop | None = None

    async def of(self, change: Future[Answer]) -> Answer:
        """What ``change`` comes to, which goes on where nobody waits for it any more."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Answer] = loop.create_future()
        change.add_done_callback(partial(self._take, loop, waiting))
        return await waiting

    def _take(
        self,
        loop: asyncio.AbstractEventLoop,
        waiting: asyncio.Future[Answer],
        change: Future[Answer],
    ) -> None:
        """In the thread that answers: note it, and call the loop unless it was called already."""
        if loop.is_closed():
            return
        self._given.append((waiting, change))
        if self._called is not loop:
            self._called = loop
            loop.call_soon_threadsafe(self._give)

    def _give(self) -> None:
        # Before the first is taken: whoever adds one from here on calls again.
        self._called = None
        while self._given:
            waiting, change = self._given.popleft()
            if waiting.done():
                continue
            error = change.exception()
            if error is None:
                waiting.set_result(change.result())
            else:
                waiting.set_exception(error)
