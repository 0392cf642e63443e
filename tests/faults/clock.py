"""The event loop's clock, which stands still until a test moves it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from receivers import PATIENCE


class Clock:
    """Schedules, breakers and timeouts go by it; what happens on sockets takes no time."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.passed = 0.0

    def advance(self, seconds: float) -> None:
        """Let time pass, for whatever waits for it."""
        self.now += seconds
        self.passed += seconds


@contextmanager
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """Within the block, time passes by ``advance`` only: the loop's and the time of day.

    Leases go by a clock of their own: make them last, or attempts wait for their renewal.
    """
    loop, today = asyncio.get_running_loop(), time.time()
    clock = Clock(loop.time())
    with monkeypatch.context() as patch:
        patch.setattr(loop, "time", lambda: clock.now)
        patch.setattr(time, "time", lambda: today + clock.passed)
        yield clock


async def until(condition: Callable[[], object]) -> None:
    """Let everything go on until this holds; for what tells nobody, and while the clock stands."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0)
