"""Sinks: how a signed letter travels, and what came of an attempt, whatever the transport."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol
from uuid import UUID

from ledger.publisher.policy import Policy

LARGEST_REPLY = 64 * 1024
"""Bytes read of an answer; nothing in it matters but that it ends."""

REPLAY_HEADER = "X-Ledger-Replay"
"""Marks what was sent before: the replay's id."""

TEST_HEADER = "X-Ledger-Test"
"""Marks an event that never happened."""


class Destination(Protocol):
    """Who receives: a subscription, as the directory or a span has it.

    ``certificate`` is the fingerprint of its client certificate, None where it has none.
    """

    @property
    def subscription_id(self) -> UUID: ...

    @property
    def app_id(self) -> UUID: ...

    @property
    def event_type(self) -> str: ...

    @property
    def url(self) -> str: ...

    @property
    def certificate(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Parcel:
    """A letter signed for one destination: the same body and headers by every transport.

    ``tls`` is the context with the destination's client certificate; None: the usual one.
    ``refusal`` is why it cannot be sent at all, where its certificate cannot be shown.
    """

    to: Destination
    site_id: UUID
    event_id: str
    headers: Mapping[str, str]
    body: bytes
    tls: ssl.SSLContext | None = None
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to: received where ``problem`` is None.

    ``status`` is the answer's where there was one; ``retry_after`` the seconds that it asks to
    wait; ``seconds`` how long the attempt took.
    """

    problem: str | None = None
    status: int | None = None
    retry_after: float | None = None
    seconds: float = 0.0

    @property
    def received(self) -> bool:
        """Whether the receiver has the event for sure."""
        return self.problem is None

    @property
    def gone(self) -> bool:
        """Whether the receiver says that it will never want anything any more."""
        return self.status == HTTPStatus.GONE


class Sink(Protocol):
    """One transport, with its connections.

    What is above it (order, lanes, schedule, breaker, replays) does not know which it is.
    """

    async def send(self, parcel: Parcel, policy: Policy) -> Outcome:
        """One attempt within ``policy.timeout`` seconds. What the receiver does never raises."""
        ...

    async def close(self) -> None:
        """Give the connections up."""
        ...
