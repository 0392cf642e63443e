"""The whole job once, over real HTTP: a demo site, a change, its history and its signed webhook."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import aiohttp
import jwt
from aiohttp import web

from ledger.assembly import Ledger
from ledger.errors import LedgerError
from ledger.history import Change
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.publisher.journal import list_attempts
from ledger.serving import Service

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
APP_SCOPE = "SCOPE.DC-STORES.READ-ORDERS"
KEY_SCOPE = "SCOPE.DC-STORES.MANAGE-ORDERS"
PATCH = {"ordersSettings": {"createInvoice": True}}
REASON = "Trying the quickstart"
PATIENCE = 30.0
LOOK = 0.5
"""Seconds between looks at why the webhook does not come."""


@dataclass(frozen=True)
class Webhook:
    """One webhook as the demo receiver got it; ``event`` is what its token says."""

    jwt: str
    event: dict[str, Any]
    verified: bool
    arrived: float


@dataclass(frozen=True)
class Demo:
    """What was set up: a site, an app installed on it, a key and a subscription."""

    site_id: UUID
    app_id: UUID
    app_secret: str
    public_key_pem: str
    instance_id: UUID
    api_key: str
    subscription_id: UUID


@dataclass(frozen=True)
class Story:
    """What happened. ``latency_ms`` runs from sending the PATCH to the webhook's arrival."""

    demo: Demo
    base_url: str
    before: dict[str, Any]
    after: dict[str, Any]
    history: list[Change]
    webhook: Webhook
    latency_ms: float


class Receiver:
    """An app's server as its developer would write it: it verifies, then answers 200."""

    def __init__(self, heard: Callable[[Webhook], None]) -> None:
        self.public_key_pem = ""
        self.url = ""
        self._heard = heard
        self._first: asyncio.Future[Webhook] = asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen on any free port of the loopback."""
        app = web.Application()
        app.router.add_post("/webhook", self._receive)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhook"
            yield
        finally:
            await runner.cleanup()

    async def first(self, refused: Callable[[], bool]) -> Webhook:
        """The first webhook; ``refused`` looks, in a thread, whether a publisher will not send it.

        Raises LedgerError where that is so, or when none comes for half a minute.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + PATIENCE
        while clock() < until:
            done, _ = await asyncio.wait({self._first}, timeout=LOOK)
            if done:
                return self._first.result()
            if await asyncio.to_thread(refused):
                raise LedgerError(
                    "Another settings-ledger publishes from this database and may not call this "
                    "machine: stop it for the demo, or start it with "
                    "LEDGER_ALLOWED_NETWORKS=127.0.0.0/8."
                )
        raise LedgerError(
            f"No webhook came within {PATIENCE:.0f} seconds; "
            "`settings-ledger delivery status` tells who delivers."
        )

    async def _receive(self, request: web.Request) -> web.Response:
        arrived = time.monotonic()
        webhook = verified(await request.text(), self.public_key_pem, arrived)
        if self._first.done():
            self._heard(webhook)
        else:
            self._first.set_result(webhook)
        return web.Response()


def verified(token: str, public_key_pem: str, arrived: float) -> Webhook:
    """Check the signature and unpack the strings of JSON inside; they nest twice."""
    try:
        claims = jwt.decode(token, public_key_pem, algorithms=["RS256"])
    except jwt.InvalidTokenError:
        return Webhook(token, {}, verified=False, arrived=arrived)
    return Webhook(token, json.loads(json.loads(claims["data"])["data"]), True, arrived)


def service_for(ledger: Ledger, *, host: str, port: int) -> Service:
    """A service that may also call receivers on this machine."""
    networks = (*ledger.config.allowed_networks, LOOPBACK)
    return Service(ledger, host=host, port=port, allowed_networks=networks)


async def run(
    ledger: Ledger,
    service: Service,
    stop: asyncio.Event,
    *,
    told: Callable[[Story], None],
    heard: Callable[[Webhook], None],
    once: bool,
) -> bool:
    """Do the whole job, hand the story to ``told``, and serve on until ``stop`` unless ``once``.

    Later webhooks go to ``heard``. The demo's subscription ends with its receiver. Returns
    whether the story came to its end before ``stop`` was set; raises what the service raises.
    """
    receiver = Receiver(heard)
    async with receiver.listening():
        demo = await asyncio.to_thread(set_up, ledger, receiver.url)
        receiver.public_key_pem = demo.public_key_pem
        serving = asyncio.create_task(service.run(stop))
        happening = asyncio.create_task(_happen(ledger, service.address, demo, receiver))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({happening, serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not happening.done():
                return False
            told(happening.result())
            if not once:
                await stopping
            return True
        finally:
            stop.set()
            happening.cancel()
            await asyncio.wait({happening, serving, stopping})
            # What ended the service tells more than the requests that it failed.
            serving.result()
            await asyncio.to_thread(ledger.directory.delete_subscription, demo.subscription_id)


def set_up(ledger: Ledger, webhook_url: str) -> Demo:
    """Create what the demo needs; nothing is sent yet."""
    directory = ledger.directory
    site_id = ledger.create_site(name="Demo shop").site_id
    app = directory.create_app("Demo app", [APP_SCOPE])
    instance = directory.install(app.app_id, site_id)
    key = directory.create_key(site_id, [KEY_SCOPE])
    subscription = directory.subscribe(app.app_id, webhook_url)
    return Demo(
        site_id=site_id,
        app_id=app.app_id,
        app_secret=app.app_secret,
        public_key_pem=app.public_key_pem,
        instance_id=instance.instance_id,
        api_key=key.api_key,
        subscription_id=subscription.subscription_id,
    )


async def _happen(ledger: Ledger, base_url: str, demo: Demo, receiver: Receiver) -> Story:
    headers = {"Authorization": demo.api_key, "wix-site-id": str(demo.site_id)}
    async with aiohttp.ClientSession(base_url, headers=headers) as session:
        before = await _call(session, "GET")
        sent = time.monotonic()
        await _call(session, "PATCH", json=PATCH, headers={"X-Ledger-Reason": REASON})
        after = await _call(session, "GET")
    webhook = await receiver.first(lambda: _is_refused(ledger, demo.subscription_id))
    history = list(await asyncio.to_thread(ledger.site(demo.site_id).history.changes))
    latency_ms = round((webhook.arrived - sent) * 1000, 1)
    return Story(demo, base_url, before, after, history, webhook, latency_ms)


def _is_refused(ledger: Ledger, subscription_id: UUID) -> bool:
    """Whether a publisher found the receiver's address to be none that it may call."""
    made = list_attempts(ledger.database, subscription_id, 1)
    return any((attempt.error or "").startswith("refused: ") for attempt in made)


async def _call(session: aiohttp.ClientSession, method: str, **request: Any) -> dict[str, Any]:
    async with session.request(method, ORDERS_SETTINGS.path, **request) as response:
        if response.status != 200:
            raise LedgerError(f"{method} answered {response.status}: {await response.text()}")
        answer: dict[str, Any] = await response.json()
        return answer
