"""The breaker: an endpoint that fails as a whole is left alone, but for one probe at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

FAILURES = 10
"""First attempts that fail one after the other, none received between them, until it opens …"""

SITES = 3
"""… over so many sites at least: one bad site is a lane's matter."""

PROBES = (5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds until the first, second, … probe; the last one repeats for ever."""

JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Opened:
    """An open breaker: probes that failed so far, seconds to the next, and what went wrong."""

    probes: int
    seconds: float
    last_error: str


class Breaker:
    """Closed, everything passes. Open, only probes do; after one that was received, few at first.

    Only first attempts count: sites that fail on every retry must not shut out the others. For
    the same reason an event that was never tried goes before a retry as a probe.
    """

    def __init__(self, most: int, probes: Sequence[float] = PROBES) -> None:
        self.changes = 0
        self._most = most
        self._schedule = probes
        self._failures = 0
        self._sites: set[UUID] = set()
        self._probes: int | None = None
        self._due = 0.0
        self._probing = False
        self._last_error = ""
        self._limit: int | None = None
        self._passing = 0
        self._fresh_waiting = 0
        self._changed = asyncio.Event()

    @property
    def opened(self) -> Opened | None:
        """What there is to tell while it is open."""
        if self._probes is None:
            return None
        return Opened(self._probes, max(0.0, self._due - _now()), self._last_error)

    async def enter(self, *, fresh: bool) -> bool:
        """Wait until an attempt may be made; whether it is a probe. ``leave`` must follow."""
        self._fresh_waiting += fresh
        try:
            while True:
                if self._probes is None:
                    if self._limit is None or self._passing < self._limit:
                        self._passing += 1
                        return False
                    await self._wait(None)
                elif self._probing or (not fresh and self._fresh_waiting):
                    await self._wait(None)
                elif self._due <= _now():
                    self._probing = True
                    return True
                else:
                    await self._wait(self._due - _now())
        finally:
            self._fresh_waiting -= fresh
            if self._probes is not None and not self._fresh_waiting:
                self._tell()

    def leave(self, problem: str | None, site: UUID, *, probe: bool, fresh: bool) -> None:
        """Take note of what came of an attempt: None where it was received."""
        if probe:
            self._end_probe(problem)
        else:
            self._passing -= 1
            self._end_attempt(problem, site, fresh=fresh)
        self._tell()

    def abandon(self, *, probe: bool) -> None:
        """An attempt was not made, or nobody will know what came of it."""
        if probe:
            self._probing = False
        else:
            self._passing -= 1
        self._tell()

    def _end_probe(self, problem: str | None) -> None:
        assert self._probes is not None
        self._probing = False
        self.changes += 1
        if problem is None:
            self._probes, self._limit = None, 1
            self._reset()
        else:
            self._probes += 1
            self._plan(problem)

    def _end_attempt(self, problem: str | None, site: UUID, *, fresh: bool) -> None:
        if problem is None:
            self._reset()
            if self._limit is not None:
                self._limit = self._limit * 2 if self._limit * 2 < self._most else None
        elif fresh and self._probes is None:
            self._failures += 1
            self._sites.add(site)
            if self._failures >= FAILURES and len(self._sites) >= SITES:
                self._probes = 0
                self.changes += 1
                self._plan(problem)

    def _plan(self, problem: str) -> None:
        self._last_error = problem
        step = min(self._probes or 0, len(self._schedule) - 1)
        self._due = _now() + self._schedule[step] * (1 + JITTER * random.random())  # noqa: S311 — no secret

    def _reset(self) -> None:
        self._failures = 0
        self._sites.clear()

    async def _wait(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _now() -> float:
    return asyncio.get_running_loop().time()
