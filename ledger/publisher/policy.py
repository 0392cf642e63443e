"""How a subscription is served: when a failed attempt is repeated, and what may hold up what."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Value = TypeVar("Value")

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

WIX_TIMEOUT = 1.25
TIMEOUT = 10.0
JITTER = 0.1
"""The part of a delay by which it may be longer, so that what failed together comes back apart."""

LONGEST_RETRY_AFTER = 1 * HOUR
"""A receiver may ask for more patience than the schedule has, up to this many seconds."""

NAMES = ("ordered", "wix", "latest")


@dataclass(frozen=True, slots=True)
class Policy:
    """One subscription's policy.

    ``ordered``: a site's next version waits until this one was received or given up. ``latest``:
    so too, but a site that waits goes on with its newest version. ``wix``: an event that failed
    is retried by itself, and the site's later ones go on.

    ``delays`` are the seconds to wait after the first, second, … failed attempt; after one
    more failure than there are delays the event becomes a dead letter. ``timeout`` bounds one
    attempt, from name look-up to the end of the answer. ``per_second`` limits attempts.

    Only status 200 means received: the wire contract demands it of receivers, and one that
    answers 202 or 204 here would lose its events at Wix.
    """

    name: str = "ordered"
    delays: Sequence[float] = ORDERED_DELAYS
    timeout: float = TIMEOUT
    in_flight: int = 32
    retries_in_flight: int = 8
    per_second: float | None = None
    jitter: float = JITTER

    @property
    def holds_back(self) -> bool:
        """Whether a site's later versions wait for one that failed."""
        return self.name != "wix"

    @property
    def collapses(self) -> bool:
        """Whether a site that waits skips to its newest version."""
        return self.name == "latest"

    def delay_after(
        self,
        failures: int,
        asked: float | None = None,
        dice: Callable[[], float] = random.random,
    ) -> float | None:
        """Seconds until the next attempt after ``failures`` in a row; None: there is none.

        ``asked`` is what the receiver's Retry-After says. It can make the wait longer, up to
        an hour; never shorter, or a receiver could use up its retries within seconds.
        """
        if failures > len(self.delays):
            return None
        delay = self.delays[failures - 1]
        if asked is not None:
            delay = max(delay, min(asked, LONGEST_RETRY_AFTER))
        return delay * (1 + self.jitter * dice())

    def received(self, status: int) -> bool:
        """Whether an answer with this status means that the receiver has the event."""
        return status == 200


@dataclass(frozen=True, slots=True)
class Choices:
    """What was chosen for a subscription; None stands for the policy's own."""

    policy: str = "ordered"
    delays: Sequence[float] | None = None
    timeout: float | None = None
    in_flight: int | None = None
    per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Policies:
    """Makes policies; ``schedule`` and ``timeout`` replace the defaults of all of them."""

    schedule: Sequence[float] | None = None
    timeout: float | None = None

    def of(self, choices: Choices) -> Policy:
        """The policy that these choices mean."""
        wix = choices.policy == "wix"
        default = Policy()
        in_flight = choices.in_flight or default.in_flight
        return Policy(
            name=choices.policy,
            delays=tuple(
                _first(choices.delays, self.schedule, WIX_DELAYS if wix else ORDERED_DELAYS)
            ),
            timeout=_first(choices.timeout, self.timeout, WIX_TIMEOUT if wix else TIMEOUT),
            in_flight=in_flight,
            retries_in_flight=min(default.retries_in_flight, in_flight),
            per_second=choices.per_second,
        )


def _first(*values: Value | None) -> Value:
    return next(value for value in values if value is not None)
