"""Which database there is: the configured one, or an embedded one that is started and migrated."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from ledger.config import Config
from ledger.database import Database, role_of
from ledger.embedded import EmbeddedServer
from ledger.embedded.cluster import SERVER
from ledger.errors import ConfigError
from ledger.migrate import check_schema, migrate

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Migrated:
    """What a migration led to: the files applied by it, and how many partitions there are now."""

    applied: list[str]
    partitions: int


def migrate_database(config: Config, *, partitions: int | None = None) -> Migrated:
    """Bring the configured database up to date as its owner, and raise its partitions to a number.

    The role of ``database_url`` gets the privileges that serving needs, unless it is the owner.
    Raises what ``ledger.migrate.migrate`` raises.
    """
    if config.owner_url is None:
        with EmbeddedServer.open(config.data_dir) as server:
            return _migrated(server.owner_url, SERVER, partitions)
    serving = role_of(config.database_url) if config.database_url else None
    if serving == role_of(config.owner_url):
        serving = None
    return _migrated(config.owner_url, serving, partitions)


def _migrated(owner_url: str, serving_role: str | None, partitions: int | None) -> Migrated:
    applied = migrate(owner_url, serving_role=serving_role, partitions=partitions)
    with Database(owner_url) as database, database.connection() as connection:
        row = connection.execute("SELECT count(*) AS number FROM partitions").fetchone()
    return Migrated(applied, row["number"] if row else 0)


def embedded_urls(held: ExitStack, config: Config, progress: Progress | None) -> tuple[str, str]:
    """The embedded server's database as who serves and as its owner; migrated, and held open."""
    server = held.enter_context(EmbeddedServer.open(config.data_dir, progress=progress))
    try:
        with Database(server.server_url) as database, database.connection() as connection:
            check_schema(connection)
    except ConfigError:
        # Outdated, or cut off before the serving role got its privileges.
        migrate(server.owner_url, serving_role=SERVER)
    return server.server_url, server.owner_url
