"""How a subscription is served: when a failed attempt is repeated, and what counts as received."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MINUTE = 60.0
HOUR = 60 * MINUTE

WIX_DELAYS = (
    1 * MINUTE,
    10 * MINUTE,
    1 * HOUR,
    *[2 * HOUR] * 3,
    *[4 * HOUR] * 3,
    *[8 * HOUR] * 2,
    12 * HOUR,
)
"""Wix's twelve retries, in seconds (wire contract)."""

ORDERED_DELAYS = (5.0, 30.0, 1 * MINUTE, *WIX_DELAYS)
"""Three quick retries for a receiver that is being restarted, then Wix's."""


@dataclass(frozen=True, slots=True)
class Policy:
    """``ordered``: a site's next version waits until this one was received or given up.

    ``delays`` are the seconds to wait after the first, second, … failed attempt; after one
    more failure than there are delays the event becomes a dead letter. ``timeout`` bounds one
    attempt, from name look-up to the end of the answer.

    Only status 200 means received: the wire contract demands it of receivers, and one that
    answers 202 or 204 here would lose its events at Wix.
    """

    delays: Sequence[float] = ORDERED_DELAYS
    timeout: float = 10.0
    in_flight: int = 32
    retries_in_flight: int = 8

    def delay_after(self, failures: int) -> float | None:
        """Seconds until the next attempt after ``failures`` in a row; None: there is none."""
        return self.delays[failures - 1] if failures <= len(self.delays) else None

    def received(self, status: int) -> bool:
        """Whether an answer with this status means that the receiver has the event."""
        return status == 200
