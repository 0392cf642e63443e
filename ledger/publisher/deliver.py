"""One attempt: a POST to a receiver, and what came of it."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp

from ledger.publisher.blocking import BlockingCalls
from ledger.publisher.guard import (
    Guard,
    GuardedResolver,
    Network,
    ReceiverRefused,
)
from ledger.publisher.letters import Letter
from ledger.publisher.policy import Policy
from ledger.publisher.sign import KeyRack

LARGEST_REPLY = 64 * 1024
"""Bytes read of a reply; nothing in it matters but that it ends."""

# Shorter than the idle limits that web servers have by default, so that a kept connection is
# hardly ever used in the moment in which the receiver closes it.
_KEEP_ALIVE = 3.0

REPLAY_HEADER = "X-Ledger-Replay"
"""Marks what was sent before: the replay's id."""

TEST_HEADER = "X-Ledger-Test"
"""Marks an event that never happened."""

_NO_MARKS: Mapping[str, str] = {}
_HEADERS = {"Content-Type": "text/plain", "User-Agent": "settings-ledger"}


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


class Courier:
    """Signs and posts. An asynchronous context manager that owns its connections.

    The receiver is a stranger: its address is judged when it is connected, redirects and the
    environment's proxies are not followed, nothing is decompressed, and one deadline holds
    from name look-up to the end of the reply.
    """

    def __init__(
        self,
        keys: KeyRack,
        allowed_networks: Iterable[Network],
        blocking: BlockingCalls,
    ) -> None:
        self._keys = keys
        self._guard = Guard(allowed_networks)
        self._blocking = blocking

    async def __aenter__(self) -> Self:
        self._sessions = {
            scheme: self._session(encrypted=scheme == "https") for scheme in ("http", "https")
        }
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for session in self._sessions.values():
            await session.close()

    def _session(self, *, encrypted: bool) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=GuardedResolver(self._guard, encrypted=encrypted),
            socket_factory=partial(self._guard.socket_for, encrypted=encrypted),
            limit=0,
            keepalive_timeout=_KEEP_ALIVE,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept-Encoding",),
            auto_decompress=False,
            trust_env=False,
        )

    async def attempt(
        self,
        app_id: UUID,
        url: str,
        letter: Letter,
        policy: Policy,
        marks: Mapping[str, str] = _NO_MARKS,
    ) -> Outcome:
        """POST the letter, signed with the app's key. What the receiver does never raises.

        ``marks`` are headers that say what is special about it. Raises LedgerError for trouble of our own, such as no database to fetch the key from.
        """
        key = self._keys.remembered(app_id)
        if key is None:
            key = await self._blocking.run(self._keys.fetch, app_id)
        body = key.sign(letter.data, letter.skipped, letter.event_id).encode("ascii")
        headers = {**_HEADERS, **key.webhook_headers(letter.event_id, body), **marks}
        began = time.monotonic()
        try:
            outcome = await self._post(url, body, headers, policy)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            outcome = Outcome(_problem(error, policy.timeout))
        return replace(outcome, seconds=time.monotonic() - began)

    async def _post(
        self, url: str, body: bytes, headers: Mapping[str, str], policy: Policy
    ) -> Outcome:
        session = self._sessions.get(urlsplit(url).scheme)
        if session is None:
            return Outcome("the URL is neither http:// nor https://")
        async with session.post(
            url,
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=policy.timeout),
        ) as reply:
            await _drain(reply)
        if policy.received(reply.status):
            return Outcome(status=reply.status)
        redirected = "; redirects are not followed" if 300 <= reply.status < 400 else ""
        return Outcome(
            f"answered {reply.status} instead of 200{redirected}",
            reply.status,
            _retry_after(reply.headers),
        )


async def _drain(reply: aiohttp.ClientResponse) -> None:
    """Read the reply so that its connection can be used again; drop it where it goes on and on."""
    size = 0
    async for chunk in reply.content.iter_any():
        size += len(chunk)
        if size > LARGEST_REPLY:
            reply.close()
            return


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a Retry-After asks for (RFC 9110, 10.2.3); None where it makes no sense.

    A date is compared with the reply's own, so that neither clock need be right.
    """
    asked = headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdigit():
        return float(asked[:9])
    try:
        until = parsedate_to_datetime(asked)
        now = parsedate_to_datetime(headers["Date"]) if "Date" in headers else datetime.now(UTC)
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _problem(error: BaseException, timeout: float) -> str:
    """A sentence for an operator, without the URL: that may hold a secret."""
    cause = getattr(error, "os_error", error)
    match cause:
        case ReceiverRefused():
            return f"refused: {cause}"
        case TimeoutError():
            return f"no whole answer within {timeout:g} s"
        case ssl.SSLError() | aiohttp.ClientConnectorCertificateError():
            return f"TLS failed: {getattr(cause, 'reason', None) or type(cause).__name__}"
        case aiohttp.ServerDisconnectedError():
            return "closed the connection without an answer"
        case aiohttp.InvalidURL() | ValueError():
            return "the URL cannot be used"
        case OSError():
            return f"cannot be reached: {_reason(cause)}"
        case _:
            return f"answered what is not HTTP: {type(cause).__name__}"


def _reason(error: OSError) -> str:
    """The operating system's own words; a look-up's errors have numbers of their own."""
    if error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or type(error).__name__
    return os.strerror(error.errno)
