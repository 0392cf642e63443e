"""``/metrics`` of a process that publishes and serves no API."""

from __future__ import annotations

import asyncio
import hmac
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from ledger.database import Database
from ledger.errors import LedgerError
from ledger.publisher.metrics import exposition


@asynccontextmanager
async def metrics_page(
    database: Database, listening: socket.socket, token: str | None
) -> AsyncIterator[None]:
    """Answer scrapers on ``listening`` while the block runs.

    ``token`` is asked for as a bearer token, where there is one. A database that does not
    answer is status 503: a scraper notes that, too.
    """
    expected = None if token is None else f"Bearer {token}".encode()

    async def metrics(request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "").encode()
        if expected is not None and not hmac.compare_digest(given, expected):
            raise web.HTTPUnauthorized(text="/metrics asks for the token of LEDGER_METRICS_TOKEN.")
        try:
            text = await asyncio.to_thread(exposition, database)
        except LedgerError as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from None
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        yield
    finally:
        await runner.cleanup()
