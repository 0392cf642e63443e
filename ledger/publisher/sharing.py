"""What several feeds ask for at the same moment, made once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

from cachetools import TTLCache

Thing = TypeVar("Thing")

LOCKS = 16


class Shared(Generic[Thing]):
    """Remembers a few things for some seconds. Blocking; safe from any thread.

    Of those who ask for the same thing at once the first makes it, and the others wait.
    """

    def __init__(self, size: int, seconds: float) -> None:
        self._lock = Lock()
        self._kept: TTLCache[Hashable, Thing] = TTLCache(size, seconds)
        self._making = [Lock() for _ in range(LOCKS)]

    def get(self, place: Hashable, make: Callable[[], Thing]) -> Thing:
        """What is remembered under ``place``, or what ``make`` returns now."""
        with self._making[hash(place) % LOCKS]:
            with self._lock:
                found = self._kept.get(place)
            if found is None:
                found = make()
                with self._lock:
                    self._kept[place] = found
            return found
