"""One attempt: a POST to a receiver, and what came of it."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
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
from ledger.publisher.policy import Policy
from ledger.publisher.sign import KeyRack

LARGEST_REPLY = 64 * 1024
"""Bytes read of a reply; nothing in it matters but that it ends."""

# Shorter than the idle limits that web servers have by default, so that a kept connection is
# hardly ever used in the moment in which the receiver closes it.
_KEEP_ALIVE = 3.0

_HEADERS = {"Content-Type": "text/plain", "User-Agent": "settings-ledger"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to: received where ``problem`` is None."""

    problem: str | None = None

    @property
    def received(self) -> bool:
        """Whether the receiver has the event for sure."""
        return self.problem is None


class Courier:
    """Signs and posts. An asynchronous context manager that owns its connections.

    The receiver is a stranger: its address is judged when it is connected, redirects and the
    environment's proxies are not followed, nothing is decompressed, and one deadline holds
    from name look-up to the end of the reply.
    """

    def __init__(
        self,
        keys: KeyRack,
        policy: Policy,
        allowed_networks: Iterable[Network],
        blocking: BlockingCalls,
    ) -> None:
        self._keys = keys
        self._policy = policy
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
            timeout=aiohttp.ClientTimeout(total=self._policy.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept-Encoding",),
            auto_decompress=False,
            trust_env=False,
        )

    async def attempt(self, app_id: UUID, url: str, data: str) -> Outcome:
        """POST ``data``, signed now with the app's key. What the receiver does never raises.

        Raises LedgerError for trouble of our own, such as no database to fetch the key from.
        """
        key = self._keys.remembered(app_id)
        if key is None:
            key = await self._blocking.run(self._keys.fetch, app_id)
        body = key.sign(data).encode("ascii")
        try:
            return await self._post(url, body)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Outcome(_problem(error, self._policy.timeout))

    async def _post(self, url: str, body: bytes) -> Outcome:
        session = self._sessions.get(urlsplit(url).scheme)
        if session is None:
            return Outcome("the URL is neither http:// nor https://")
        async with session.post(url, data=body, headers=_HEADERS, allow_redirects=False) as reply:
            await _drain(reply)
        if self._policy.received(reply.status):
            return Outcome()
        redirected = "; redirects are not followed" if 300 <= reply.status < 400 else ""
        return Outcome(f"answered {reply.status} instead of 200{redirected}")


async def _drain(reply: aiohttp.ClientResponse) -> None:
    """Read the reply so that its connection can be used again; drop it where it goes on and on."""
    size = 0
    async for chunk in reply.content.iter_any():
        size += len(chunk)
        if size > LARGEST_REPLY:
            reply.close()
            return


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
