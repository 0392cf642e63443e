"""A receiver of webhooks that costs as little as it can: it notes when each came, and says 200.

Orders: ``port``; ``forget``; ``count`` and ``within`` (seconds), which waits for so many arrivals
and tells of all. A path that begins with /hang is never answered.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from typing import Any

import uvloop

from tests.bench.worker import serve

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb"webhook-id: *(\S+)", re.IGNORECASE)
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_LOOK = 0.005

_arrivals: list[tuple[str, str, float]] = []


class _Receiving(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            length = _LENGTH.search(head)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < size:
                return
            self._received = self._received[size:]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        path = head.split(b" ", 2)[1].decode()
        if path.startswith("/hang"):
            return
        self._transport.write(_OK)
        found = _ID.search(head)
        _arrivals.append((path, found[1].decode() if found else "", time.monotonic()))


def _listen(place: socket.socket) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Receiving, sock=place)
        await server.serve_forever()

    uvloop.run(main())


def _main() -> None:
    place = socket.create_server(("127.0.0.1", 0), backlog=2048)
    threading.Thread(target=_listen, args=(place,), daemon=True).start()

    def work(order: dict[str, Any]) -> dict[str, Any]:
        if "forget" in order:
            _arrivals.clear()
        if "count" in order:
            end = time.monotonic() + order["within"]
            while len(_arrivals) < order["count"] and time.monotonic() < end:
                time.sleep(_LOOK)
            return {"arrivals": list(_arrivals)}
        return {"port": place.getsockname()[1]}

    serve(work)


if __name__ == "__main__":
    _main()
