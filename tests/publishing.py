"""A ledger with an app, for tests of the publisher; and how its sites are changed."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from receivers import Arrival, Receiver

from ledger.assembly import Ledger
from ledger.publisher import Publisher
from ledger.publisher.term import Term

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
SCOPES = ["SCOPE.DC-ECOM-MEGA.MANAGE-ECOM"]
AT_ONCE = (0.0,) * 60


@dataclass
class World:
    """A ledger with one app, and publishers for it."""

    ledger: Ledger
    app: Any

    @classmethod
    def on(cls, ledger: Ledger) -> World:
        return cls(ledger, ledger.directory.create_app("App", SCOPES))

    def site(self, app_id: UUID | None = None) -> Any:
        site = self.ledger.create_site()
        self.ledger.directory.install(app_id or self.app.app_id, site.site_id)
        return site

    def subscribe(self, receiver: Receiver) -> UUID:
        return self.ledger.directory.subscribe(self.app.app_id, receiver.url).subscription_id

    def publisher(self, **options: Any) -> Publisher:
        settings = {"allowed_networks": LOOPBACK, "schedule": AT_ONCE, **options}
        if settings.get("timeout", 0.0) > 15.0:
            settings.setdefault("lease", 120.0)
        return Publisher(self.ledger.database, self.ledger.directory, **settings)

    @asynccontextmanager
    async def term(self, **options: Any) -> AsyncIterator[Term]:
        async with self.publisher(**options).term() as term:
            yield term

    async def publish(self, **options: Any) -> None:
        """Deliver all there is, and write the progress down."""
        async with self.term(**options) as term:
            await term.sweep()
            await term.settled()

    def rows(self, query: str) -> list[dict[str, Any]]:
        with self.ledger.database.connection() as connection:
            return connection.execute(query).fetchall()


def flip(site: Any, count: int = 1) -> None:
    """Change a site ``count`` times."""
    for _ in range(count):
        site.update({"createInvoice": not site.settings()["createInvoice"]})


def site_of(arrival: Arrival) -> str:
    """The site that the arrival is about."""
    return json.loads(arrival.data)["accountInfo"]["siteId"]
