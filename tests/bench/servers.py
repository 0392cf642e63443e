"""Programs that serve HTTP, each a process of its own: ours, and what somebody would write by hand."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
from psycopg.types.json import Jsonb

from ledger import Ledger
from ledger.orders_settings import ORDERS_SETTINGS
from tests.bench import bare, memory
from tests.bench.append import CREATORS, create_sites, owner_url
from tests.bench.bench import CHECKOUT, environment
from tests.bench.load import HOST
from tests.bench.worker import Worker

BODIES = tuple(
    json.dumps({ORDERS_SETTINGS.wrapper: {"createInvoice": value}}) for value in (True, False)
)
BARE = "bare FastAPI route"
PATIENCE = 30.0
_PAUSE = 0.02


@dataclass(frozen=True)
class Served:
    """A server that answers, and where to ask it for each site."""

    port: int
    process: int
    doors: Sequence[tuple[str, str]]
    bodies: Sequence[str] = BODIES

    def load(self, directory: Path, *, reads: float) -> Worker:
        """``tests.bench.load`` on this server; the caller closes it."""
        file = directory / f"target-{uuid4().hex}.json"
        target = {"port": self.port, "doors": self.doors, "bodies": self.bodies, "reads": reads}
        file.write_text(json.dumps(target))
        return Worker.start("tests.bench.load", file)

    def peak(self) -> float | None:
        """The most memory that it had at once, in MiB."""
        return memory.peak(self.process)


@contextmanager
def ours(ledger: Ledger, sites: int) -> Iterator[Served]:
    """``settings-ledger serve`` as it comes, without a limit per client; one app on new sites."""
    site_ids = create_sites(ledger, sites)
    path = ORDERS_SETTINGS.path
    doors = [(path, token) for token in access_tokens(ledger, site_ids)]
    port = free_port()
    command = [sys.executable, "-m", "ledger", "serve", "--port", str(port)]
    with program(command, port, environment(ledger, rate_limit=0)) as process:
        yield Served(port, process, doors)


def access_tokens(ledger: Ledger, site_ids: Sequence[str]) -> list[str]:
    """An access token for each site, of one app that may read and change the settings."""
    app = ledger.directory.create_app("Bench", ORDERS_SETTINGS.manage_scopes)

    def installed(site_id: str) -> str:
        instance_id = ledger.directory.install(app.app_id, UUID(site_id)).instance_id
        return ledger.access.grants.grant(str(app.app_id), app.app_secret, str(instance_id))

    with ThreadPoolExecutor(CREATORS) as creators:
        return list(creators.map(installed, site_ids))


@contextmanager
def by_hand(ledger: Ledger, sites: int) -> Iterator[Served]:
    """``tests.bench.bare`` on the same database, with a row for each site."""
    with closing(psycopg.connect(owner_url(ledger))) as connection, connection.cursor() as cursor:
        cursor.execute(bare.TABLE)
        defaults = Jsonb(ORDERS_SETTINGS.defaults())
        rows = [(site_id, defaults) for site_id in range(sites)]
        cursor.executemany("INSERT INTO bare_settings VALUES (%s, %s)", rows)
        connection.commit()
    port = free_port()
    options = ("--port", str(port), "--no-access-log", "--log-level", "warning")
    command = [sys.executable, "-m", "uvicorn", *options, "tests.bench.bare:app"]
    doors = [(bare.PATH.format(site_id=site_id), "none") for site_id in range(sites)]
    with program(command, port, os.environ | {bare.URL: owner_url(ledger)}) as process:
        yield Served(port, process, doors)


@contextmanager
def program(command: Sequence[str], port: int, env: Mapping[str, str]) -> Iterator[int]:
    """Run a server until the end of the block; its process id, once it listens.

    Raises RuntimeError, with what it said, where it ends instead.
    """
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            command, cwd=CHECKOUT, env=dict(env), stdout=said, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            _wait_until_listening(process, port)
            yield process.pid
        except RuntimeError as error:
            said.seek(0)
            error.add_note(said.read().decode(errors="replace"))
            raise
        finally:
            process.terminate()


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with socket.socket() as caller:
            if caller.connect_ex((HOST, port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(_PAUSE)
    message = f"{process.args!r} does not listen on port {port}"
    raise RuntimeError(message)


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.create_server((HOST, 0)) as listening:
        port: int = listening.getsockname()[1]
    return port
