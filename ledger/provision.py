"""Which database there is: the configured one, or an embedded one that is started and migrated."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from ledger.config import Config
from ledger.database import Database, role_of
from ledger.embedded import EmbeddedServer
from ledger.embedded.cluster import SERVER
from ledger.errors import SchemaOutdated
from ledger.migrate import check_schema, migrate

Progress = Callable[[str], None]


def migrate_database(config: Config, *, partitions: int | None = None) -> list[str]:
    """Bring the configured database up to date as its owner; returns the files applied.

    The role of ``database_url`` gets the privileges that serving needs, unless it is the owner.
    """
    if config.owner_url is None:
        with EmbeddedServer.open(config.data_dir) as server:
            return migrate(server.owner_url, serving_role=SERVER, partitions=partitions)
    serving = role_of(config.database_url) if config.database_url else None
    if serving == role_of(config.owner_url):
        serving = None
    return migrate(config.owner_url, serving_role=serving, partitions=partitions)


def embedded_urls(held: ExitStack, config: Config, progress: Progress | None) -> tuple[str, str]:
    """The embedded server's database as who serves and as its owner; migrated, and held open."""
    server = held.enter_context(EmbeddedServer.open(config.data_dir, progress=progress))
    try:
        with Database(server.server_url) as database, database.connection() as connection:
            check_schema(connection)
    except SchemaOutdated:
        migrate(server.owner_url, serving_role=SERVER)
    return server.server_url, server.owner_url
