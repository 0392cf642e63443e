"""Processes that sign for a busy publisher, while it sends what they signed before."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import cast

import structlog
from cachetools import LRUCache

from ledger.publisher.signer import ANSWER, CONTENT, KEY, REQUEST, Pair

log = structlog.get_logger(__name__)

MOST = 4
"""Processes, at most; there is none on a machine with one processor."""

BUSY = 100
"""Signatures a second that make a publisher start processes for them."""

IDLE = 60.0
"""Seconds after which processes that nobody needed end."""

PATIENCE = 5.0
"""Seconds in which a signature must come, or the process is given up."""

AGAIN = 60.0
"""Seconds until processes are started again after one was lost."""

SLOTS = 1024
"""Keys that a process remembers."""

Signatures = tuple[bytes, bytes]


class Signers:
    """Signs in other processes when there is enough to sign, and else here.

    They only ever make it faster: what one of them does not answer is signed here. Belongs to
    one event loop, and owns the processes until ``close``.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = min(MOST, _processors() - 1) if most is None else most
        self._running: list[_Process] = []
        self._ending: list[_Process] = []
        self._starting: asyncio.Task[None] | None = None
        self._second = self._signed = 0
        self._not_before = 0.0
        self._last_use = 0.0
        self._retirement: asyncio.TimerHandle | None = None

    @property
    def processes(self) -> int:
        """How many there are now."""
        return len(self._running)

    async def sign(self, pair: Pair, opening: bytes, content: bytes) -> Signatures:
        """What ``pair.sign`` returns."""
        if not self._running:
            self._consider()
            return pair.sign(opening, content)
        self._last_use = asyncio.get_running_loop().time()
        process = min(self._running, key=lambda one: one.waiting)
        try:
            return await process.sign(pair, opening, content)
        except ConnectionError:
            self._give_up(process)
            self._not_before = asyncio.get_running_loop().time() + AGAIN
            return pair.sign(opening, content)

    async def close(self) -> None:
        """End the processes, and wait until they have ended."""
        if self._retirement is not None:
            self._retirement.cancel()
        if self._starting is not None:
            self._starting.cancel()
            with suppress(asyncio.CancelledError):
                await self._starting
        await self._end()

    def _give_up(self, process: _Process) -> None:
        if process in self._running:
            self._running.remove(process)
            self._ending.append(process)
            process.end()

    async def _end(self) -> None:
        for process in list(self._running):
            self._give_up(process)
        while self._ending:
            await self._ending.pop().ended.wait()

    def _consider(self) -> None:
        now = asyncio.get_running_loop().time()
        if int(now) != self._second:
            self._second, self._signed = int(now), 0
        self._signed += 1
        due = self._signed >= BUSY and self._most > 0 and now >= self._not_before
        if due and (self._starting is None or self._starting.done()):
            self._not_before = now + AGAIN
            self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            for _ in range(self._most):
                self._running.append(await _Process.start())
        except OSError as error:
            log.warning("publisher signs by itself", problem=str(error))
        self._last_use = loop.time()
        self._retirement = loop.call_later(IDLE, self._retire)

    def _retire(self) -> None:
        loop = asyncio.get_running_loop()
        left = self._last_use + IDLE - loop.time()
        if left > 0:
            self._retirement = loop.call_later(left, self._retire)
            return
        self._not_before = 0.0
        self._starting = loop.create_task(self._end())


class _Process(asyncio.SubprocessProtocol):
    """One process, and the signatures that it owes, in the order of the requests."""

    def __init__(self) -> None:
        self.lost = False
        self.ended = asyncio.Event()
        self._owed: deque[asyncio.Future[Signatures]] = deque()
        self._received = bytearray()
        self._unsent = bytearray()
        self._watch: asyncio.TimerHandle | None = None
        self._slots: LRUCache[int, tuple[int, Pair]] = LRUCache(SLOTS)
        self._transport: asyncio.SubprocessTransport | None = None

    @classmethod
    async def start(cls) -> _Process:
        """Start one. Raises OSError."""
        _, process = await asyncio.get_running_loop().subprocess_exec(
            cls,
            sys.executable,
            "-P",
            str(Path(__file__).with_name("signer.py")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        return process

    @property
    def waiting(self) -> int:
        """How many signatures it owes."""
        return len(self._owed)

    async def sign(self, pair: Pair, opening: bytes, content: bytes) -> Signatures:
        """Raises ConnectionError where the process is lost."""
        request = REQUEST.pack(CONTENT, self._slot(pair), len(opening), len(content))
        owed: asyncio.Future[Signatures] = asyncio.get_running_loop().create_future()
        self._owed.append(owed)
        if self._watch is None:
            self._watch = owed.get_loop().call_later(PATIENCE, self._judge, owed)
        self._write(request + opening + content)
        return await owed

    def _slot(self, pair: Pair) -> int:
        """Where the process keeps the pair; it is told, if it does not have it yet."""
        known = self._slots.get(id(pair))
        if known is not None:
            return known[0]
        slot = self._slots.popitem()[1][0] if len(self._slots) == SLOTS else len(self._slots)
        # The pair is held on to, so that no other gets its id.
        self._slots[id(pair)] = slot, pair
        rsa, ed25519 = pair.parts()
        self._write(REQUEST.pack(KEY, slot, len(rsa), len(ed25519)) + rsa + ed25519)
        return slot

    def _write(self, data: bytes) -> None:
        """Send it together with what else is asked for in this turn of the loop."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent += data

    def _judge(self, owed: asyncio.Future[Signatures]) -> None:
        """Give it up if it still owes what it owed when the watch began."""
        self._watch = None
        if not owed.done():
            self._lose()
        elif self._owed:
            newest = self._owed[-1]
            self._watch = newest.get_loop().call_later(PATIENCE, self._judge, newest)

    def _flush(self) -> None:
        pipe = None if self._transport is None else self._transport.get_pipe_transport(0)
        if self.lost or pipe is None:
            self._lose()
        else:
            cast(asyncio.WriteTransport, pipe).write(bytes(self._unsent))
        self._unsent.clear()

    def end(self) -> None:
        """Have it end."""
        self._lose()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It runs."""
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002 — only one is read
        """Hand signatures to those who wait for them, or did."""
        self._received += data
        while len(self._received) >= ANSWER.size:
            token, webhook = ANSWER.unpack_from(self._received)
            end = ANSWER.size + token + webhook
            if len(self._received) < end:
                return
            answer = bytes(self._received[ANSWER.size : end])
            del self._received[:end]
            owed = self._owed.popleft()
            if not owed.done():
                owed.set_result((answer[:token], answer[token:]))

    def pipe_connection_lost(self, fd: int, error: Exception | None) -> None:  # noqa: ARG002
        """It does not listen or answer any more."""
        self._lose()

    def process_exited(self) -> None:
        """It has ended."""
        self._lose()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        """It has ended, and its pipes are closed."""
        self._lose()
        self.ended.set()

    def _lose(self) -> None:
        self.lost = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        while self._owed:
            owed = self._owed.popleft()
            if not owed.done():
                owed.set_exception(ConnectionResetError("the signing process ended"))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
