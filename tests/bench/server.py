"""The benchmarks' own PostgreSQL server: fsync on, room for many clients, a database per scenario."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString, Self
from uuid import uuid4

import psycopg
from psycopg import sql

from ledger.embedded import EmbeddedServer
from ledger.embedded.cluster import OWNER, SERVER
from ledger.migrate import migrate

CONNECTIONS = 400
"""pgbench opens one for each of its clients."""
_ADMIN = "postgres"
_PAUSE = 0.02


@dataclass(frozen=True)
class Place:
    """One migrated database, as the role that serves, as its owner, and as a superuser."""

    server_url: str
    owner_url: str
    admin_url: str


class Server:
    """A server that runs for as long as the benchmarks do."""

    def __init__(self, embedded: EmbeddedServer) -> None:
        self._embedded = embedded

    @classmethod
    @contextmanager
    def started(cls, directory: Path, *, connections: int | None = CONNECTIONS) -> Iterator[Self]:
        """Start one in an empty directory; ``connections`` None keeps the usual number."""
        if connections is not None:
            with EmbeddedServer.open(directory) as first:
                cls(first).configure("max_connections", connections)
            wait_for_the_end(first.url(_ADMIN, "postgres"))
        with EmbeddedServer.open(directory) as embedded:
            yield cls(embedded)

    def configure(self, name: str, value: object) -> None:
        """Set an option of the server; None takes it back. Some need a restart."""
        statement = sql.SQL("ALTER SYSTEM RESET {}").format(sql.Identifier(name))
        if value is not None:
            statement = sql.SQL("ALTER SYSTEM SET {} = {}").format(
                sql.Identifier(name), sql.Literal(value)
            )
        with closing(self._connect()) as connection:
            connection.execute(statement)
            connection.execute("SELECT pg_reload_conf()")

    def option(self, name: str) -> str:
        """How an option of the server stands."""
        with closing(self._connect()) as connection:
            row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
        return str(row[0]) if row else ""

    @contextmanager
    def database(self, *, partitions: int = 1) -> Iterator[Place]:
        """A ledger's database, empty and migrated, for the length of the block."""
        with self._made() as name:
            place = Place(*(self._embedded.url(role, name) for role in (SERVER, OWNER, _ADMIN)))
            migrate(place.owner_url, serving_role=SERVER, partitions=partitions)
            yield place

    @contextmanager
    def blank_database(self) -> Iterator[str]:
        """The URL of a database without tables, as its owner, for somebody else's program."""
        with self._made() as name:
            yield self._embedded.url(OWNER, name)

    @contextmanager
    def _made(self) -> Iterator[str]:
        name = f"bench_{uuid4().hex[:12]}"
        self._do("CREATE DATABASE {} OWNER {}", name, OWNER)
        try:
            yield name
        finally:
            self._do("DROP DATABASE {} WITH (FORCE)", name)

    def _do(self, statement: LiteralString, *names: str) -> None:
        with closing(self._connect()) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._embedded.url(_ADMIN, "postgres"), autocommit=True)


def wait_for_the_end(url: str) -> None:
    """Return once a server that nobody uses any more has begun to stop."""
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            return
        time.sleep(_PAUSE)
