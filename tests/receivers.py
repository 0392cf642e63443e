"""Receivers of webhooks that do as a test bids them, and remember everything that arrived."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

import jwt
from aiohttp import web

PATIENCE = 30.0
"""Seconds after which a condition that did not come true fails the test."""


@dataclass(frozen=True)
class Arrival:
    """One POST as it arrived."""

    body: str
    headers: dict[str, str]
    data: str
    event: dict[str, Any]
    skipped: int = 0

    @classmethod
    def of(cls, body: str, headers: dict[str, str]) -> Arrival:
        claims = jwt.decode(body, options={"verify_signature": False})
        data, skipped = claims["data"], claims.get("skippedVersions", 0)
        return cls(body, headers, data, json.loads(json.loads(data)["data"]), skipped)

    @property
    def id(self) -> str:
        return self.event["id"]

    @property
    def entity(self) -> str:
        return self.event["entityId"]

    @property
    def version(self) -> int:
        return int(self.event["entityEventSequence"])


Answer = Callable[[Arrival], "int | Awaitable[int]"]


class Receiver:
    """An HTTP server on 127.0.0.1. ``answer`` gives the status for each arrival.

    ``acknowledged_before`` says for each arrival how many were acknowledged when it came.
    """

    def __init__(self, answer: Answer = lambda _: 200) -> None:
        self.answer = answer
        self.reply_headers: dict[str, str] = {}
        self.arrivals: list[Arrival] = []
        self.acknowledged: list[Arrival] = []
        self.acknowledged_before: list[int] = []
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_post("/hook", self._receive)
        self._runner = web.AppRunner(application, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        arrival = Arrival.of(await request.text(), dict(request.headers))
        self.arrivals.append(arrival)
        self.acknowledged_before.append(len(self.acknowledged))
        await self._tell()
        status = self.answer(arrival)
        if not isinstance(status, int):
            status = await status
        if status == 200:
            self.acknowledged.append(arrival)
            await self._tell()
        return web.Response(status=status, headers=self.reply_headers)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[Receiver], bool]) -> None:
        """Wait until ``condition`` holds; checked at every arrival and acknowledgement."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: condition(self))

    async def received(self, count: int) -> list[Arrival]:
        """The first ``count`` arrivals, as soon as there are so many."""
        await self.until(lambda _: len(self.arrivals) >= count)
        return self.arrivals[:count]


async def hang(_: Arrival) -> int:
    """Never answer."""
    await asyncio.Event().wait()
    return 200
