"""A process that serves: HTTP API, history and publisher together, and a clean end for all."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any, TypeVar

import uvicorn
import uvloop

from ledger.assembly import Ledger
from ledger.config import Network, is_loopback
from ledger.database import Database, DatabaseError
from ledger.errors import ConfigError, LedgerError

Result = TypeVar("Result")

GRACE = 0.5
"""Seconds that a request under way gets to finish once the server is asked to stop."""
BACKLOG = 2048
YOUNG_OBJECTS = 10_000
"""How many objects come between two looks for circles among them."""
PATIENCE = 1.5
"""Seconds in which a database answers that can still record what waits."""
PAUSE = 0.25
"""Seconds between looks at whether it does."""


class Service:
    """The API on one address, listening from here on and answering while ``run`` runs.

    Beside it the history follows the log, and with ``publish`` the publisher delivers;
    ``allowed_networks`` replaces the configured ones.
    Raises ConfigError where the address cannot be had.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        host: str,
        port: int,
        publish: bool = True,
        allowed_networks: Sequence[Network] | None = None,
    ) -> None:
        self._ledger = ledger
        self._publish = publish
        self._networks = allowed_networks
        self._socket = _listen(host, port)
        self.address = _address(host, self._socket.getsockname()[1])

    async def run(self, stop: asyncio.Event, listening: Callable[[], None] | None = None) -> None:
        """Serve until ``stop`` is set; ``listening`` is called once requests are answered."""
        from ledger.web import create_app
        from ledger.web.protocol import HttpProtocol

        app = create_app(self._ledger)
        # What is there by now stays: looking it over again and again costs a fifth of a request.
        gc.collect()
        gc.freeze()
        # A request makes hundreds of objects and no circles: looked for less often than every 700.
        gc.set_threshold(YOUNG_OBJECTS)
        config = uvicorn.Config(
            app,
            http=HttpProtocol,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            # A plain number of seconds to asyncio, whatever its type says.
            timeout_graceful_shutdown=GRACE,  # type: ignore[arg-type]
        )
        server = _Server(config, listening or (lambda: None))
        tasks = [
            asyncio.create_task(server.serve(sockets=[self._socket])),
            asyncio.create_task(self._ledger.projections.follow_beside(stop)),
        ]
        if self._publish:
            tasks.append(asyncio.create_task(publish(self._ledger, stop, self._networks)))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        asked = stop.is_set()
        stop.set()
        app.state.closing = server.should_exit = True
        await asyncio.wait([*tasks, stopping])
        for task in tasks:
            task.result()
        if not asked:
            raise LedgerError("The server ended by itself; its log says why.")

    def close(self) -> None:
        """Give the address back."""
        self._socket.close()


async def publish(
    ledger: Ledger,
    stop: asyncio.Event,
    allowed_networks: Sequence[Network] | None = None,
    grace: float = GRACE,
) -> None:
    """Deliver webhooks until ``stop`` is set; requests in flight then get ``grace`` seconds."""
    from ledger.publisher import Publisher

    networks = ledger.config.allowed_networks if allowed_networks is None else allowed_networks
    publisher = Publisher(ledger.database, ledger.directory, allowed_networks=networks, grace=grace)
    await publisher.run(stop)


class PublishingService:
    """A process that publishes and serves no API, but for ``/metrics`` where it has a port.

    ``grace`` is how many seconds requests in flight get at the end. Raises ConfigError where
    the port cannot be had, or would be open to others without a token.
    """

    def __init__(self, ledger: Ledger, *, grace: float) -> None:
        self._ledger = ledger
        self._grace = grace
        self._socket: socket.socket | None = None
        self.metrics_address: str | None = None
        host, port = ledger.config.metrics_host, ledger.config.metrics_port
        if port is None:
            return
        if ledger.config.metrics_token is None and not is_loopback(host):
            raise ConfigError(
                f"Metrics on {host} need LEDGER_METRICS_TOKEN: they tell of every subscription."
            )
        self._socket = _listen(host, port, "--metrics-port or LEDGER_METRICS_PORT")
        self.metrics_address = f"{_address(host, self._socket.getsockname()[1])}/metrics"

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until ``stop`` is set, and until what was under way has ended."""
        from ledger.publisher.scrape import metrics_page

        async with AsyncExitStack() as stack:
            if self._socket is not None:
                token = self._ledger.config.metrics_token
                plain = None if token is None else token.get_secret_value()
                await stack.enter_async_context(
                    metrics_page(self._ledger.database, self._socket, plain)
                )
            await publish(self._ledger, stop, grace=self._grace)

    def close(self) -> None:
        """Give the port back."""
        if self._socket is not None:
            self._socket.close()


async def project(ledger: Ledger, stop: asyncio.Event) -> None:
    """Follow the log with every projection until ``stop`` is set.

    Raises UnknownTopic or LedgerCorrupt where there is nothing left that can be followed.
    """
    halt = threading.Event()
    following = asyncio.create_task(asyncio.to_thread(ledger.projections.follow, halt))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([following, stopping], return_when=asyncio.FIRST_COMPLETED)
    halt.set()
    stopping.cancel()
    await following


def run_until_stopped(
    job: Callable[[asyncio.Event], Coroutine[Any, Any, Result]], database: Database
) -> Result:
    """Run ``job`` on a loop of its own; SIGINT and SIGTERM set the event that it is given.

    From then on the process ends at once, with status 1, where ``database`` does not answer:
    threads that wait for it would never let go.
    """

    async def main() -> Result:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def end() -> None:
            if not stop.is_set():
                _Departure(database).begin()
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end)
        return await job(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


class _Departure:
    """Watches the database from ``begin`` until the process ends, and ends it where needed.

    A thread that waits for a frozen server cannot be called off, and Python joins such threads
    at exit. What was not answered by then has no known outcome, as after a lost connection;
    a database that refuses is left to whoever asked it, because that is an answer.
    """

    def __init__(self, database: Database, patience: float = PATIENCE) -> None:
        self._database = database
        self._patience = patience

    def begin(self) -> None:
        """Watch from here on. Returns at once."""
        threading.Thread(target=self._watch, name="settings-ledger end", daemon=True).start()

    def _watch(self) -> None:
        while self._answers():
            time.sleep(PAUSE)
        sys.stderr.write("The database does not answer; ended without waiting for it.\n")
        sys.stderr.flush()
        os._exit(1)

    def _answers(self) -> bool:
        """Whether the server says anything at all in time."""
        heard = threading.Event()

        def ask() -> None:
            with suppress(LedgerError, DatabaseError), self._database.connect("end") as connection:
                connection.execute("SELECT 1")
            heard.set()

        threading.Thread(target=ask, name="settings-ledger end", daemon=True).start()
        return heard.wait(self._patience)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which would end the process as if it had failed."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._listening()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int, options: str = "--port or LEDGER_PORT") -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"Port {port} of {host} is in use: name another with {options} "
                "(0 takes any free one)."
            ) from None
        raise ConfigError(f"Cannot listen on {host} port {port}: {error.strerror}.") from None


class PortInUse(ConfigError):
    """Somebody else listens there."""


def _address(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"
