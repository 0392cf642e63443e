"""PostgreSQL is stopped at once, without a checkpoint, and comes back."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from publishing import World
from receivers import Receiver

from faults.clock import until
from faults.delivery import all_arrived, changing, examine, once_refused, recorded, running
from ledger.assembly import Ledger
from ledger.embedded import EmbeddedServer
from ledger.migrate import migrate

SITES = 8


class OwnServer:
    """A server for one test, which starts again by itself unless its keeper is held."""

    def __init__(self, directory: Path) -> None:
        self._home = directory / "postgres"

    def stop_immediately(self) -> None:
        """What ``pg_ctl stop -m immediate`` does, which root may not call."""
        assert self.pid is not None
        os.kill(self.pid, signal.SIGQUIT)

    def hold(self) -> None:
        """Have it stay away once it is stopped."""
        os.kill(self._keeper, signal.SIGSTOP)

    def start(self) -> None:
        """Let it start again."""
        os.kill(self._keeper, signal.SIGCONT)

    @property
    def pid(self) -> int | None:
        """The server's process, once it is ready."""
        try:
            marks = (self._home / "cluster" / "postmaster.pid").read_text().split()
        except FileNotFoundError:
            return None
        return int(marks[0]) if marks and marks[-1] == "ready" else None

    @property
    def _keeper(self) -> int:
        return int(json.loads((self._home / "server.json").read_text())["keeper"])


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[OwnServer]:
    with EmbeddedServer.open(tmp_path / "server") as server:
        migrate(server.owner_url, serving_role="ledger_server")
        yield OwnServer(tmp_path / "server")


@pytest.fixture
def own_world(own_server: OwnServer, tmp_path: Path) -> Iterator[World]:
    with (
        EmbeddedServer.open(tmp_path / "server") as server,
        Ledger.open(database_url=server.server_url, data_dir=tmp_path / "data") as ledger,
    ):
        yield World.on(ledger)


@pytest.mark.slow
@pytest.mark.fault("PostgreSQL stopped at once and started again, under load", "G1 G2 G3 G7")
async def test_postgres_is_restarted_under_load(own_world: World, own_server: OwnServer) -> None:
    """Once it is back at once, once it stays away a while; the publisher goes on by itself."""
    async with Receiver(once_refused(random.Random(3))) as receiver:
        sites = [own_world.site() for _ in range(SITES)]
        own_world.subscribe(receiver)
        async with running(own_world) as publisher:
            async with changing(sites):
                await receiver.received(30)
                first = own_server.pid
                own_server.stop_immediately()
                await until(lambda: own_server.pid not in (first, None))
                await receiver.received(len(receiver.arrivals) + 50)
                own_server.hold()
                try:
                    own_server.stop_immediately()
                    await until(lambda: publisher._trouble._said)
                finally:
                    own_server.start()
                await receiver.received(len(receiver.arrivals) + 50)
            expected = await asyncio.to_thread(recorded, own_world)
            await all_arrived(receiver, expected)
    examine(receiver, expected)
