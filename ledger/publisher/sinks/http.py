"""Webhooks: a POST to a stranger, and what its answer means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import urlsplit

import aiohttp

from ledger.publisher.guard import Guard, GuardedResolver
from ledger.publisher.policy import Policy
from ledger.publisher.sink import LARGEST_REPLY, Outcome, Parcel
from ledger.publisher.sinks.problems import HUNG_UP, connection_problem

# Shorter than the idle limits that web servers have by default, so that a kept connection is
# hardly ever used in the moment in which the receiver closes it.
_KEEP_ALIVE = 3.0


_HUNG_UP = (aiohttp.ServerDisconnectedError, ConnectionResetError, BrokenPipeError)


class HttpSink:
    """Posts. Made within a running loop, and owns its connections until it is closed.

    The receiver is a stranger: its address is judged when it is connected, redirects and the
    environment's proxies are not followed, nothing is decompressed, and one deadline holds
    from name look-up to the end of the reply.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._sessions = {
            scheme: self._session(encrypted=scheme == "https") for scheme in ("http", "https")
        }

    async def close(self) -> None:
        """Close every connection."""
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

    async def send(self, parcel: Parcel, policy: Policy) -> Outcome:
        """POST the parcel. Received is what the policy says of the answer's status."""
        try:
            return await self._post(parcel, policy)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = _cause(error)
            problem = _problem(cause, policy.timeout)
            if parcel.tls is not None and isinstance(cause, _HUNG_UP):
                problem += "; it may not accept the client certificate"
            return Outcome(problem)

    async def _post(self, parcel: Parcel, policy: Policy) -> Outcome:
        session = self._sessions[urlsplit(parcel.to.url).scheme]
        async with session.post(
            parcel.to.url,
            data=parcel.body,
            headers=parcel.headers,
            allow_redirects=False,
            # To the moment: aiohttp would round a long deadline up, and leases count on it.
            timeout=aiohttp.ClientTimeout(total=policy.timeout, ceil_threshold=math.inf),
            # Connections are kept apart by context, so none is used with another's certificate.
            ssl=True if parcel.tls is None else parcel.tls,
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


def _cause(error: BaseException) -> BaseException:
    """What went wrong underneath; what aiohttp makes of it may name the URL."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return error.certificate_error
        case aiohttp.ClientConnectorError():
            return error.os_error
        case aiohttp.ClientOSError():
            return error.__cause__ or aiohttp.ServerDisconnectedError()
        case _:
            return error


def _problem(cause: BaseException, timeout: float) -> str:
    """A sentence for an operator, without the URL: that may hold a secret."""
    known = connection_problem(cause, timeout)
    if known is not None:
        return known
    match cause:
        case aiohttp.ServerDisconnectedError():
            return HUNG_UP
        case aiohttp.InvalidURL() | ValueError():
            return "the URL cannot be used"
        case _:
            return f"answered what is not HTTP: {type(cause).__name__}"
