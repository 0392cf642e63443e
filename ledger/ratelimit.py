"""How often one client may ask: at most so many requests in any minute."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Lock

from cachetools import LRUCache

from ledger.errors import RateLimited

PERIOD = 60.0
"""Seconds in which a client has ``limit`` requests."""
REMEMBERED_CLIENTS = 10_000


class RateLimit:
    """Counts what each client was allowed within the last minute, in this process.

    Exact, unlike a token bucket (which lets through twice the limit in its first minute) and a
    counter per minute (twice around its turn): the times of the last ``limit`` requests are
    kept, 32 bytes each. That is the whole of it, so no library stands behind it. Refused
    requests do not count. Safe to use from any thread.
    """

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._allowed: LRUCache[str, deque[float]] = LRUCache(REMEMBERED_CLIENTS)
        self._lock = Lock()

    def admit(self, client: str) -> None:
        """Count a request of the client. Raises RateLimited where it had its share; 0: never."""
        if self._limit == 0:
            return
        with self._lock:
            now = self._clock()
            times = self._allowed.get(client)
            if times is None:
                times = self._allowed[client] = deque(maxlen=self._limit)
            if len(times) == self._limit and now - times[0] < PERIOD:
                raise RateLimited(
                    f"The limit of {self._limit} requests a minute is used up; wait and try again.",
                    PERIOD - (now - times[0]),
                )
            times.append(now)
