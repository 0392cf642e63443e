"""HTTP over one connection: uvicorn's, with whole replies and the contract's own 400."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ledger.web.malformed import malformed

LARGE = 16 * 1024
"""Bytes that are sent without waiting for more."""


class HttpProtocol(HttpToolsProtocol):
    """A connection of the API's server."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve a client."""
        # uvloop's own transports do not inherit from asyncio's either.
        replies: Any = WholeReplies(cast("asyncio.Transport", transport), self.loop)
        super().connection_made(replies)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 the parser's words are not ours
        """Answer bytes that cannot be understood, and hang up: they never get to the API."""
        headers, body = malformed()
        lines = ["HTTP/1.1 400 Bad Request", *(f"{name}: {value}" for name, value in headers)]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("ascii") + body)
        self.transport.close()


class WholeReplies:
    """A transport that sends at once what is written to it within one turn of the event loop.

    The head of a reply and its body are written one after the other: together they cost one
    system call less here, and one wake-up less where they are read.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send ``data`` before the loop waits again."""
        if not self._written:
            self._loop.call_soon(self._flush)
        self._written.append(data)
        # So that a client which reads slowly is noticed while there is more to send.
        if len(data) >= LARGE:
            self._flush()

    def close(self) -> None:
        """Send what was written, then hang up."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        written, self._written = self._written, []
        if written and not self._transport.is_closing():
            self._transport.write(b"".join(written))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
