"""A connection to a NATS server that was judged like any other receiver."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import ParseResult, urlsplit

from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from nats.errors import Error
from nats.js.client import JetStreamContext

from ledger.publisher.guard import Guard, GuardedResolver
from ledger.publisher.sink import LARGEST_REPLY

NATS_PORT = 4222
_LINE = 32 * 1024
"""Bytes of the longest line that a server may begin with."""
_FOR_EVER = 2**31
"""Seconds: the attempt's own deadline ends what takes too long."""


class LinkLost(ConnectionError):
    """The connection ended while an answer was waited for."""


class Link:
    """One connection, used by many attempts at once, and never mended: a new one is made.

    The address is judged when it is connected, and other servers that this one names are not
    called. Over ``tls://`` nothing is sent in the clear, whatever the server says.
    """

    def __init__(self, guard: Guard, url: str, tls: ssl.SSLContext) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or NATS_PORT
        self._encrypted = parts.scheme == "tls"
        self._tls = tls
        self._guard = guard
        self._begun = False
        self._used = asyncio.get_running_loop().time()
        self._said: str | None = None
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport = _Transport(self._end, encrypted=self._encrypted)
        self._client = _Client(self._transport, self._end)
        self._stream = JetStreamContext(self._client)

    @property
    def open(self) -> bool:
        """Whether it can be used."""
        return self._client.is_connected and not self._lost.done()

    def idle_for(self) -> float:
        """Seconds since it was last used."""
        return asyncio.get_running_loop().time() - self._used

    @property
    def said(self) -> str | None:
        """What the server complained of last: a refused subject, or why it hung up."""
        last = self._client.last_error
        return self._said or (_words(last) if last is not None else None)

    async def connect(self) -> None:
        """Connect. Raises OSError, ssl.SSLError, and nats.errors.Error for a refusal."""
        resolver = GuardedResolver(self._guard, encrypted=self._encrypted)
        failure: OSError = OSError("the name has no address")
        for place in await resolver.resolve(self._host, self._port):
            end = (place["host"], place["port"])
            info = (place["family"], socket.SOCK_STREAM, place["proto"], "", end)
            try:
                await self._transport.reach(self._guard, info, encrypted=self._encrypted)
                break
            except OSError as error:
                failure = error
        else:
            raise failure
        self._begun = True
        await self._client.connect(
            f"nats://{'[' + self._host + ']' if ':' in self._host else self._host}:{self._port}",
            name="settings-ledger",
            tls=self._tls,
            tls_hostname=self._host,
            allow_reconnect=False,
            connect_timeout=_FOR_EVER,
            error_cb=self._note,
            closed_cb=self._closed,
        )

    async def publish(
        self, subject: str, body: bytes, headers: dict[str, str], seconds: float
    ) -> bool:
        """Send, and wait until a stream has stored it; whether it had it before.

        Raises nats.errors.Error for a refusal, and LinkLost.
        """
        self._transport.renew()
        self._used = asyncio.get_running_loop().time()
        # The client may overhear that it is cancelled: so it has the deadline, too.
        request = asyncio.ensure_future(self._stream.publish(subject, body, seconds, None, headers))
        request.add_done_callback(_hear)
        try:
            either: set[asyncio.Future[Any]] = {request, self._lost}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not request.done():
                raise LinkLost
            return bool(request.result().duplicate)
        finally:
            request.cancel()

    async def close(self) -> None:
        """Hang up."""
        self._end()
        # First: the client would wait until a server that reads no more has read the rest.
        self._transport.close()
        if self._begun:
            with suppress(OSError, Error):
                await self._client.close()

    async def _note(self, error: Exception) -> None:
        self._said = _words(error)

    async def _closed(self) -> None:
        self._end()

    def _end(self) -> None:
        if not self._lost.done():
            self._lost.set_result(None)


def _hear(request: asyncio.Future[Any]) -> None:
    """Take note of an error that nobody waits for any more."""
    if not request.cancelled():
        request.exception()


def _words(error: Exception) -> str:
    return str(error).removeprefix("nats: ")


class _Client(Client):
    """The client on a transport that is connected already."""

    def __init__(self, transport: _Transport, ended: Callable[[], None]) -> None:
        super().__init__()
        self._transport = transport
        self._ended = ended

    async def _read_loop(self) -> None:
        """Nobody hears an answer once this is over, whatever ended it."""
        try:
            await super()._read_loop()
        finally:
            self._ended()


class _Transport(TcpTransport):
    """TCP to an address that may be called, TLS where it was asked for, and limited reading."""

    def __init__(self, ended: Callable[[], None], *, encrypted: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ended = ended
        self._needs_tls = encrypted
        self._left = LARGEST_REPLY

    async def reach(self, guard: Guard, info: Any, *, encrypted: bool) -> None:
        """Connect. Raises OSError, ReceiverRefused among them."""
        loop = asyncio.get_running_loop()
        connection = guard.socket_for(info, encrypted=encrypted)
        try:
            connection.setblocking(False)
            await loop.sock_connect(connection, info[4])
            reader, writer = await asyncio.open_connection(sock=connection, limit=_LINE)
        except BaseException:
            connection.close()
            raise
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Nothing: it is connected."""

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,
        connect_timeout: int,
    ) -> None:
        """Encrypt what is connected."""
        await super().connect_tls(uri, ssl_context, buffer_size, connect_timeout)
        self._needs_tls = False

    def write(self, payload: bytes) -> None:
        """Send. Raises Error where it must be encrypted and the server did not ask for that."""
        if self._needs_tls:
            raise Error("nats: the server offers no TLS")
        super().write(payload)  # type: ignore[no-untyped-call]

    async def read(self, buffer_size: int) -> bytes:
        """What comes. Raises ConnectionError for a server that says much and answers nothing."""
        try:
            data: bytes = await super().read(buffer_size)
        except OSError:
            self._ended()
            raise
        self._left -= len(data)
        if not data or self._left < 0:
            self._ended()
        if self._left < 0:
            raise ConnectionAbortedError
        return data

    def renew(self) -> None:
        """Another request, another answer to be read."""
        self._left = LARGEST_REPLY

    def close(self) -> None:
        """Hang up without a farewell: what was not acknowledged is sent again anyway."""
        if self._io_writer is not None:
            self._io_writer.transport.abort()

    async def wait_closed(self) -> None:
        """Nothing: there is nobody to wait for."""
