"""A program: the eventsourcing library as it comes, with an aggregate like ours and its own
recorder for PostgreSQL, named by the environment; get and save by many callers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from psycopg import conninfo

from ledger.orders_settings import ORDERS_SETTINGS
from tests.bench.callers import Call, call_for
from tests.bench.worker import serve

AGGREGATES = 512
# More of them only wait for its table lock within the server.
MOST_CONNECTIONS = 32
NAME = "stock eventsourcing, get + save"


class Site(Aggregate):
    """Settings that remember who changed what, as ours do."""

    @event("Created")
    def __init__(self, site_id: str, settings: dict[str, Any]) -> None:
        self.site_id = site_id
        self.settings = settings

    @event("Changed")
    def change(
        self, changes: dict[str, Any], settings: dict[str, Any], actor: str, via: str
    ) -> None:
        """Take on settings."""
        self.settings = settings


class Sites(Application[UUID]):
    """The application over them."""


def environment(url: str, callers: int) -> dict[str, str]:
    """The variables that bring the library to a database, with connections for its callers."""
    given = conninfo.conninfo_to_dict(url)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(given["dbname"]),
        "POSTGRES_HOST": str(given["host"]),
        "POSTGRES_PORT": str(given.get("port", 5432)),
        "POSTGRES_USER": str(given["user"]),
        "POSTGRES_PASSWORD": str(given.get("password", "")),
        "POSTGRES_POOL_SIZE": str(min(callers, MOST_CONNECTIONS)),
        "POSTGRES_MAX_OVERFLOW": "0",
        "POSTGRES_MAX_WAITING": str(callers),
        # Not at every use of a connection: it would cost another round trip.
        "POSTGRES_PRE_PING": "n",
    }


def main() -> None:
    """Do orders: ``callers`` and ``seconds``."""
    application = Sites()
    sites = [Site(str(uuid4()), ORDERS_SETTINGS.defaults()) for _ in range(AGGREGATES)]
    application.save(*sites)

    def work(order: dict[str, Any]) -> Mapping[str, Any]:
        callers = order["callers"]
        ids = [site.id for site in sites]
        return call_for(
            order["seconds"],
            [_updates(application, ids[caller::callers]) for caller in range(callers)],
        )

    serve(work)


def _updates(application: Sites, own: list[UUID]) -> Call:
    actor, via = str(uuid4()), "library"

    def update(turn: int) -> None:
        site: Site = application.repository.get(own[turn % len(own)])
        value = turn // len(own) % 2 == 0
        changes = {"createInvoice": {"from": site.settings["createInvoice"], "to": value}}
        site.change(changes, site.settings | {"createInvoice": value}, actor, via)
        application.save(site)

    return update


if __name__ == "__main__":
    main()
