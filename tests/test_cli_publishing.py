"""``publish``: how it ends, what it tells, and its metrics."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import PATIENCE, CommandLine
from publishing import World, flip
from receivers import Arrival, Receiver

from ledger.assembly import Ledger
from ledger.config import load_config
from ledger.errors import ConfigError, DatabaseUnavailable
from ledger.publisher.journal import list_attempts
from ledger.publisher.status import publisher_status
from ledger.serving import PublishingService

SECRET_KEY = "the key of the tests of publish 0123456789"


@pytest.fixture
def database_url(fresh_database: Callable[[], Any]) -> str:
    url: str = fresh_database().server_url
    return url


async def test_sigterm_waits_for_the_answer_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """The request in flight is answered after the signal, and counts; its lease is free at once.

    Until then ``/metrics`` answers. The log has a line a batch, each an object, and no URL.
    """
    asked, answered = asyncio.Event(), asyncio.Event()

    async def slowly(_: Arrival) -> int:
        asked.set()
        await answered.wait()
        return 200

    settings = {"LEDGER_ALLOWED_NETWORKS": "127.0.0.0/8", "LEDGER_LOG_FORMAT": "json"}
    cli = CommandLine(tmp_path / "data", settings)
    with Ledger.open(data_dir=cli.data_dir) as ledger:
        world = World.on(ledger)
        async with Receiver(slowly) as receiver:
            subscription_id = ledger.directory.subscribe(
                world.app.app_id, f"{receiver.url}?token=secret"
            ).subscription_id
            flip(world.site())
            with cli.started("publish", "--metrics-port", 0) as process:
                async with asyncio.timeout(PATIENCE):
                    await asked.wait()
                assert process.stdout is not None
                page = (await asyncio.to_thread(process.stdout.readline)).split()[-1]
                async with httpx.AsyncClient() as client:
                    assert "ledger_publisher_feeds" in (await client.get(page)).text
                process.send_signal(signal.SIGTERM)
                ending = asyncio.to_thread(process.communicate, None, PATIENCE)
                ended = asyncio.create_task(ending)
                answered.set()
                _, errors = await ended
        status = publisher_status(ledger.database)
        attempts = list_attempts(ledger.database, subscription_id, 10)
    assert process.returncode == 0, errors
    assert len(receiver.arrivals) == 1
    assert [one.error for one in attempts] == [None]
    assert not status.publishers
    assert [feed.lag for feed in status.feeds] == [0]
    lines = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    [batch] = [line for line in lines if line["event"] == "publisher batch"]
    assert (batch["received"], batch["refused"], batch["failed"]) == (1, 0, 0)
    assert "secret" not in errors
    assert "Traceback" not in errors


@asynccontextmanager
async def publishing(database_url: str, **options: Any) -> AsyncIterator[str]:
    """What ``publish`` does with these options; the address of its metrics."""
    config = load_config(database_url=database_url, secret_key=SECRET_KEY, **options)
    with Ledger.open(config) as ledger:
        service, stop = PublishingService(ledger, grace=0.0), asyncio.Event()
        running = asyncio.create_task(service.run(stop))
        try:
            assert service.metrics_address is not None
            yield service.metrics_address
        finally:
            stop.set()
            await running
            service.close()


async def test_metrics_ask_for_the_token_where_there_is_one(database_url: str) -> None:
    """As ``serve`` does; nothing else is to be had there."""
    async with (
        publishing(database_url, metrics_port=0, metrics_token="prometheus") as page,
        httpx.AsyncClient() as client,
    ):
        assert (await client.get(page)).status_code == 401
        answer = await client.get(page, headers={"Authorization": "Bearer prometheus"})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        assert "ledger_delivery_attempts_total" in answer.text
        assert (await client.get(page.removesuffix("metrics"))).status_code == 404


async def test_metrics_say_that_the_database_is_away(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence and 503, for a scraper to note; the page itself goes on."""
    async with publishing(database_url, metrics_port=0) as page, httpx.AsyncClient() as client:
        assert (await client.get(page)).status_code == 200

        def away(_: object) -> bytes:
            raise DatabaseUnavailable("The database does not answer.")

        monkeypatch.setattr("ledger.publisher.scrape.exposition", away)
        assert (await client.get(page)).status_code == 503


def test_metrics_for_others_need_a_token(database_url: str) -> None:
    """They tell of every subscription."""
    options = {"metrics_port": 0, "metrics_host": "0.0.0.0", "secret_key": SECRET_KEY}
    with (
        Ledger.open(database_url=database_url, **options) as ledger,
        pytest.raises(ConfigError, match="Metrics on 0.0.0.0 need LEDGER_METRICS_TOKEN"),
    ):
        PublishingService(ledger, grace=0.0)


def test_a_port_that_is_taken_is_named_by_its_option(database_url: str) -> None:
    """Not by the one of ``serve``."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = {"metrics_port": taken.getsockname()[1], "secret_key": SECRET_KEY}
        with (
            Ledger.open(database_url=database_url, **options) as ledger,
            pytest.raises(ConfigError, match="--metrics-port or LEDGER_METRICS_PORT"),
        ):
            PublishingService(ledger, grace=0.0)
