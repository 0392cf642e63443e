"""NATS JetStream: each event in a stream, on a subject per site, acknowledged once it is stored."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from urllib.parse import urlsplit

from nats.errors import ConnectionClosedError, Error
from nats.js.errors import APIError, NoStreamResponseError

from ledger.publisher.guard import Guard
from ledger.publisher.policy import Policy
from ledger.publisher.sink import REPLAY_HEADER, Outcome, Parcel
from ledger.publisher.sinks.link import Link, LinkLost
from ledger.publisher.sinks.problems import connection_problem

PREFIX = "settings"
"""Where a URL has no path."""

IDLE = 60.0
"""Seconds after which a connection that nobody uses any more is closed."""

ID_HEADER = "Nats-Msg-Id"
"""By this a stream drops what it has already (within its ``duplicate_window``)."""

_HUNG_UP = (ConnectionResetError, BrokenPipeError, LinkLost, ConnectionClosedError)

Address = tuple[str, ssl.SSLContext | None]


class NatsSink:
    """Publishes, over one connection for each server and client certificate.

    The message is the HTTP request's body with the same headers. A message's id is the event's,
    with the feed's behind it: two subscriptions may share a stream, and a replay must not be
    taken for what was sent before.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._links: dict[Address, Link] = {}
        self._doors: dict[Address, asyncio.Lock] = {}
        self._usual: ssl.SSLContext | None = None

    async def close(self) -> None:
        """Close every connection."""
        for link in self._links.values():
            await link.close()
        self._links.clear()

    async def send(self, parcel: Parcel, policy: Policy) -> Outcome:
        """Publish the parcel. Received is what a stream has stored, now or before."""
        subject, headers = subject_of(parcel), {ID_HEADER: message_id(parcel), **parcel.headers}
        link: Link | None = None
        try:
            async with asyncio.timeout(policy.timeout):
                link = await self._link(parcel)
                await link.publish(subject, parcel.body, headers, policy.timeout)
        except (Error, OSError, ValueError, TypeError, KeyError) as error:
            said = link.said if link is not None else None
            outcome = _failed(error, subject, policy.timeout, said)
            if isinstance(error, _HUNG_UP):
                outcome = replace(outcome, problem=f"{outcome.problem}{_doubt(parcel)}")
            return outcome
        return Outcome()

    async def _link(self, parcel: Parcel) -> Link:
        """The open connection, or a new one; whoever comes meanwhile waits for it."""
        address = (_server(parcel.to.url), parcel.tls)
        link = self._links.get(address)
        if link is not None and link.open:
            return link
        async with self._doors.setdefault(address, asyncio.Lock()):
            link = self._links.get(address)
            if link is not None and link.open:
                return link
            await self._close_unused(address)
            link = Link(self._guard, address[0], parcel.tls or self._usual_context())
            try:
                await link.connect()
            except BaseException:
                await link.close()
                raise
            self._links[address] = link
            return link

    async def _close_unused(self, address: Address) -> None:
        """Close the broken one of an address, and those left by certificates and URLs of before."""
        for other, link in list(self._links.items()):
            if other == address or link.idle_for() > IDLE:
                del self._links[other]
                await link.close()

    def _usual_context(self) -> ssl.SSLContext:
        if self._usual is None:
            self._usual = ssl.create_default_context()
        return self._usual


def subject_of(parcel: Parcel) -> str:
    """``<prefix>.<event>.<site id>``: the URL's path, and the last part of the event type."""
    prefix = urlsplit(parcel.to.url).path.strip("/") or PREFIX
    return f"{prefix}.{parcel.to.event_type.rpartition('.')[2]}.{parcel.site_id}"


def message_id(parcel: Parcel) -> str:
    """The same in every attempt of one feed: a subscription's live one, or a replay."""
    feed = parcel.headers.get(REPLAY_HEADER, parcel.to.subscription_id)
    return f"{parcel.event_id}.{feed}"


def _doubt(parcel: Parcel) -> str:
    """Where TLS lets a server hang up before it has said that it wants another certificate."""
    if urlsplit(parcel.to.url).scheme != "tls":
        return ""
    verb = "demand a" if parcel.tls is None else "not accept the"
    return f"; it may {verb} client certificate"


def _server(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _failed(error: Exception, subject: str, timeout: float, said: str | None) -> Outcome:
    """What to tell an operator. No subject is a secret: it names the site that is asked about."""
    match error:
        case NoStreamResponseError():
            return Outcome(f"no stream takes the subject {subject}")
        case APIError():
            return Outcome(f"the stream refused it: {error.description}", error.code)
        case LinkLost() | ConnectionClosedError():
            return Outcome(f"the server closed the connection{f': {said}' if said else ''}")
        case TimeoutError() if said:
            return Outcome(f"not acknowledged within {timeout:g} s: {said}")
        case TimeoutError():
            return Outcome(f"not acknowledged within {timeout:g} s")
        case Error():
            return Outcome(f"the server refused: {str(error).removeprefix('nats: ')}")
    problem = connection_problem(error, timeout)
    return Outcome(problem or f"answered what is not JetStream: {type(error).__name__}")
