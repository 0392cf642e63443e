"""``publish`` as a process of its own: how it ends, what it tells, and its metrics."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import PATIENCE, CommandLine
from publishing import SCOPES
from receivers import Arrival, Receiver

from ledger.embedded import EmbeddedServer

MANAGE = SCOPES[0]


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    data_dir = tmp_path_factory.mktemp("cli") / "data"
    with EmbeddedServer.open(data_dir):
        yield CommandLine(
            data_dir, {"LEDGER_ALLOWED_NETWORKS": "127.0.0.0/8", "LEDGER_LOG_FORMAT": "json"}
        )


async def call(function: Any, *arguments: object) -> Any:
    """A command beside the receivers of this loop."""
    return await asyncio.to_thread(function, *arguments)


async def subscribed(cli: CommandLine, url: str) -> tuple[str, str]:
    """A site and a subscription to it."""
    site = (await call(cli.json, "site", "create"))["site_id"]
    app = await call(cli.json, "app", "create", "--name", "A", "--scope", MANAGE)
    await call(cli.json, "app", "install", app["app_id"], site)
    made = await call(cli.json, "subscription", "create", app["app_id"], "--url", url)
    return site, made["subscription_id"]


async def test_sigterm_waits_for_the_answer_and_leaves_nothing_behind(cli: CommandLine) -> None:
    """The request in flight is answered after the signal, and counts; its lease is free at once.

    The log has a line a batch, each an object, and no URL.
    """
    asked, answered = asyncio.Event(), asyncio.Event()

    async def slowly(_: Arrival) -> int:
        asked.set()
        await answered.wait()
        return 200

    async with Receiver(slowly) as receiver:
        site, subscription = await subscribed(cli, f"{receiver.url}?token=secret")
        with cli.started("publish") as process:
            await call(
                cli.words, "settings", "update", "--site", site, "--set", "createInvoice=true"
            )
            async with asyncio.timeout(PATIENCE):
                await asked.wait()
            process.send_signal(signal.SIGTERM)
            ending = asyncio.create_task(call(process.communicate, None, PATIENCE))
            answered.set()
            _, errors = await ending
        assert process.returncode == 0, errors
        status = await call(cli.json, "publisher", "status")
        attempts = await call(cli.json, "deliveries", subscription)
    assert len(receiver.arrivals) == 1
    assert [one["error"] for one in attempts] == [None]
    assert not status["publishers"]
    assert [feed["lag"] for feed in status["feeds"]] == [0]
    lines = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    [batch] = [line for line in lines if line["event"] == "publisher batch"]
    assert (batch["received"], batch["refused"], batch["failed"]) == (1, 0, 0)
    assert "secret" not in errors
    assert "Traceback" not in errors


async def scraped(cli: CommandLine, *options: str, **headers: str) -> httpx.Response:
    """What ``publish`` answers at the address that it prints."""
    with cli.started("publish", *options) as process:
        assert process.stdout is not None
        line = await call(process.stdout.readline)
        assert line.startswith("Metrics on http://127.0.0.1:"), await call(process.communicate)
        async with httpx.AsyncClient() as client:
            return await client.get(line.split()[-1], headers=headers)


async def test_publish_serves_metrics_where_it_is_told_to(cli: CommandLine) -> None:
    """On this machine, with the token where there is one."""
    answer = await scraped(cli, "--metrics-port", "0")
    assert answer.status_code == 200
    assert "ledger_delivery_attempts_total" in answer.text
    having = cli.having(LEDGER_METRICS_PORT="0", LEDGER_METRICS_TOKEN="prometheus")
    assert (await scraped(having)).status_code == 401
    assert (await scraped(having, Authorization="Bearer prometheus")).status_code == 200


def test_metrics_for_others_need_a_token(cli: CommandLine) -> None:
    """They tell of every subscription."""
    everywhere = cli.having(LEDGER_METRICS_HOST="0.0.0.0")
    refusal = everywhere.refusal("publish", "--metrics-port", 0)
    assert refusal.endswith(
        "Metrics on 0.0.0.0 need LEDGER_METRICS_TOKEN: they tell of every subscription."
    )


def test_a_port_that_is_taken_is_named_by_its_option(cli: CommandLine, tmp_path: Path) -> None:
    """Not by the one of ``serve``."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "--metrics-port or LEDGER_METRICS_PORT" in cli.refusal(
            "publish", "--metrics-port", port
        )
