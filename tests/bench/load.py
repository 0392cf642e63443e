"""A program: HTTP requests over connections that stay open, at as little cost as Python allows.

The server under test must be what takes the time, so there is no HTTP library in here: requests
are bytes that were put together beforehand, and of an answer only status and length are read.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import uvloop

from tests.bench.worker import serve

HOST = "127.0.0.1"
_STATUS = re.compile(rb"HTTP/1\.[01] (\d+)")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_SEED = 20_261_122


def main(target_file: str) -> None:
    """Do orders on the target that the file describes (see ``Target``)."""
    target = Target(**json.loads(Path(target_file).read_text()))

    def work(order: dict[str, Any]) -> Mapping[str, Any]:
        return uvloop.run(_run(target, **order))

    serve(work)


class Target:
    """Where to ask, as whom, and what.

    ``doors`` are pairs of a path and an ``Authorization`` header; each asks for its own row.
    ``bodies`` are what PATCH sends, in turn, and ``reads`` is the share of GETs.
    """

    def __init__(
        self, port: int, doors: Sequence[tuple[str, str]], bodies: Sequence[str], reads: float
    ) -> None:
        self.port = port
        self._doors = doors
        self._bodies = bodies
        self._reads = reads

    def requests(
        self, connection: int, connections: int, sites: int | None, *, once: bool
    ) -> Iterator[bytes]:
        """What one of so many connections sends over the first ``sites`` doors, for ever.

        Each connection has doors of its own where there are enough of them. With ``once`` each
        is asked for one change, and that is all.
        """
        doors = self._doors[:sites]
        own = doors[connection::connections]
        if not own and once:
            return
        own = list(own or [doors[connection % len(doors)]])
        chance, bodies = random.Random(_SEED + connection), cycle(self._bodies)
        chance.shuffle(own)
        for path, authorization in own if once else cycle(own):
            body = None if not once and chance.random() < self._reads else next(bodies)
            yield _request(path, authorization, body)


def _request(path: str, authorization: str, body: str | None) -> bytes:
    lines = [
        f"{'GET' if body is None else 'PATCH'} {path} HTTP/1.1",
        f"Host: {HOST}",
        f"Authorization: {authorization}",
    ]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", body or ""]).encode("ascii")


class _Connection(asyncio.Protocol):
    """Sends the next request when the last was answered, until it is told to stop."""

    def __init__(self, requests: Iterator[bytes], done: asyncio.Future[None]) -> None:
        self._requests = requests
        self._done = done
        self._received = b""
        self.answered = 0
        self.stopping = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's own transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def go(self) -> None:
        """Send one request, if there is one."""
        request = None if self.stopping else next(self._requests, None)
        if request is not None:
            self._transport.write(request)
        elif not self._done.done():
            self._done.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._received, 0, head)
        end = head + 4 + (int(length[1]) if length else 0)
        if len(self._received) < end:
            return
        status = _STATUS.match(self._received)
        if length is None or status is None or status[1] != b"200":
            self._fail(RuntimeError(f"the server answered {self._received[:500]!r}"))
            return
        self._received = self._received[end:]
        self.answered += 1
        self.go()

    def connection_lost(self, _error: Exception | None) -> None:
        self._fail(RuntimeError("the server hung up"))

    def _fail(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)

    def close(self) -> None:
        """Hang up."""
        self._transport.close()


async def _run(
    target: Target,
    connections: int,
    seconds: float | None = None,
    sites: int | None = None,
    *,
    once: bool = False,
) -> dict[str, float]:
    """Every connection sends for so long, or ``once``; what began is answered and counted."""
    loop = asyncio.get_running_loop()
    opened: list[_Connection] = []
    done = [loop.create_future() for _ in range(connections)]
    for number, each in enumerate(done):
        requests = target.requests(number, connections, sites, once=once)
        _, connection = await loop.create_connection(
            partial(_Connection, requests, each), HOST, target.port
        )
        opened.append(connection)
    began = time.monotonic()
    for connection in opened:
        connection.go()
    await asyncio.wait(done, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for connection in opened:
        connection.stopping = True
    await asyncio.gather(*done)
    took = time.monotonic() - began
    for connection in opened:
        connection.close()
    return {"done": sum(connection.answered for connection in opened), "took": took}


if __name__ == "__main__":
    main(*sys.argv[1:])
