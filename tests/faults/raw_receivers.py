"""Receivers on raw sockets that answer as HTTP does not foresee."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

from receivers import Arrival, Receiver

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
DRIP = 0.01
"""Seconds between two bytes of a slow answer."""


class RawReceiver(Receiver):
    """Reads a request and does as ``script`` says; answers 200 while there is none.

    ``received`` says whether the script's answer counts as 200. ``deaf`` ones do as the script
    says as soon as they are called.
    """

    def __init__(
        self, script: Script | None = None, *, received: bool = False, deaf: bool = False
    ) -> None:
        super().__init__()
        self.script = script
        self.calls = 0
        self._script_receives = received
        self._deaf = deaf

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            if self._deaf and self.script is not None:
                await self.script(reader, writer)
            else:
                await self._answer(await self._request(reader), reader, writer)
        writer.close()
        await self._tell()

    async def _request(self, reader: asyncio.StreamReader) -> Arrival:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(headers["Content-Length"]))
        return Arrival.of(body.decode(), headers)

    async def _answer(
        self, arrival: Arrival, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        script = self.script
        self.arrivals.append(arrival)
        self.acknowledged_before.append(len(self.acknowledged))
        if script is None or self._script_receives:
            self.acknowledged.append(arrival)
        await self._tell()
        if script is None:
            writer.write(OK)
            await writer.drain()
        else:
            await script(reader, writer)


def replying(*parts: bytes) -> Script:
    """Answer with these bytes and hang up."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return script


def dripping(beginning: bytes, drop: bytes) -> Script:
    """A byte now and then, so that it is never silent for long and never done."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(beginning)
        while not reader.at_eof():
            writer.write(drop)
            await writer.drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), DRIP)

    return script


def endless(beginning: bytes, more: bytes) -> Script:
    """As much as there is room for, without end."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(beginning)
        while True:
            writer.write(more)
            await writer.drain()

    return script


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hang up hard: RST instead of FIN."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def redirecting(status: int, location: str) -> Script:
    """Send the publisher elsewhere."""
    head = f"HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    return replying(head.encode())


def gzip_bomb() -> Script:
    """32 MiB in 32 KiB, broken early on: who begins to unpack it fails."""
    packed = bytearray(gzip.compress(bytes(32 << 20)))
    packed[20:40] = b"\xff" * 20
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
    return replying(head.encode(), bytes(packed))
