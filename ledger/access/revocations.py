"""What was revoked while tokens live: a list that every server asks for anew every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from threading import Lock
from typing import Protocol

from ledger.access.tokens import LIFETIME
from ledger.directory import Revocations

REVOKED_WITHIN = 5.0
"""Seconds within which every server refuses what was revoked: keys, secrets, installations."""

WINDOW = timedelta(seconds=LIFETIME + 600)
"""How far back the list goes: a token that was got before has expired by itself."""


class ListsRevocations(Protocol):
    """What this module asks of the directory."""

    def revocations(self, within: timedelta) -> Revocations:
        """What was uninstalled or revoked within this time."""


class RecentRevocations:
    """The list, at most ``REVOKED_WITHIN`` seconds old. Safe to use from any thread.

    One small query per process and period, however many tokens there are. A list that is too
    old is not used: where the database cannot be asked, tokens are refused with its error.
    """

    def __init__(
        self,
        directory: ListsRevocations,
        *,
        remember: float = REVOKED_WITHIN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._remember = remember
        self._clock = clock
        self._asking = Lock()
        self._list: tuple[float, Revocations] | None = None

    def at_hand(self) -> Revocations | None:
        """The list if it is young enough: no waiting."""
        known = self._list
        if known is None or self._clock() - known[0] >= self._remember:
            return None
        return known[1]

    def fetch(self) -> Revocations:
        """The list, from the database where need be. Those who wait meanwhile share the answer.

        Raises DatabaseUnavailable.
        """
        with self._asking:
            known = self.at_hand()
            if known is None:
                # Read before asking: what is revoked during the query may be missing in it.
                asked = self._clock()
                known = self._directory.revocations(WINDOW)
                self._list = (asked, known)
            return known
