"""Blocking calls from the event loop: database work, in threads of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

THREADS = 4

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class BlockingCalls:
    """A few threads for the publisher's database work, apart from the loop's default ones."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "settings-ledger publisher")

    async def run(
        self,
        call: Callable[Parameters, Result],
        *arguments: Parameters.args,
        **options: Parameters.kwargs,
    ) -> Result:
        """Await ``call`` in a thread. Cancelling stops the waiting, not the call."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: call(*arguments, **options))

    def close(self) -> None:
        """Start nothing more; calls under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)
