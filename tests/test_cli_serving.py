"""``serve`` and ``publish`` run until they are asked to stop, and then end at once."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
from urllib.parse import urlsplit

import pytest
from command_line import CommandLine, interrupted, listening_address

from ledger.embedded import EmbeddedServer

MANAGE = "SCOPE.DC-STORES.MANAGE-ORDERS"


@pytest.fixture(scope="module")
def cli(tmp_path_factory):
    """The command line on a data directory whose server runs as long as the module's tests."""
    data_dir = tmp_path_factory.mktemp("cli") / "data"
    with EmbeddedServer.open(data_dir):
        yield CommandLine(data_dir)


def _get(address: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_within_a_second_or_so(cli, number):
    """It answers once it printed its address; a signal ends it with 0 and without a traceback.

    A client that keeps its connection open does not hold it up. On a busy machine the end of
    the process itself takes its time, hence the margin.
    """
    with cli.started("serve", "--port", 0) as process:
        address = urlsplit(listening_address(process))
        idle = http.client.HTTPConnection(address.netloc, timeout=30)
        idle.request("GET", "/readyz")
        assert idle.getresponse().read() == b'{"status":"ready"}'
        status, seconds, errors = interrupted(process, number)
        idle.close()
    assert status == 0
    assert "Traceback" not in errors
    assert seconds < 3


def test_serve_answers_for_what_the_command_line_made(cli):
    """A site and a key made while it serves are served at once."""
    with cli.serving("--no-publish") as address:
        site = cli.json("site", "create")["site_id"]
        key = cli.json("key", "create", "--site", site, "--scope", MANAGE)["api_key"]
        headers = {"Authorization": key, "wix-site-id": site}
        status, answer = _get(address, "/ecom/v1/orders-settings", headers)
        assert (status, answer["ordersSettings"]["createInvoice"]) == (200, False)
        cli.words("settings", "update", "--site", site, "--set", "createInvoice=true")
        _, answer = _get(address, "/ecom/v1/orders-settings", headers)
        assert answer["ordersSettings"]["createInvoice"] is True


def test_serve_listens_where_it_is_told(cli):
    """``--host`` and LEDGER_HOST, and an IPv6 address in brackets."""
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with cli.having(LEDGER_HOST="::1").serving("--no-publish") as address:
        assert address.startswith("http://[::1]:")
        assert _get(address, "/healthz")[0] == 200


async def test_publish_alone_delivers(cli):
    """``publish`` sends what was recorded while ``serve`` did not publish."""
    arrived = asyncio.Event()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        arrived.set()

    async with await asyncio.start_server(receive, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await asyncio.to_thread(_subscribe_and_change, cli, f"http://127.0.0.1:{port}/")
        with cli.having(LEDGER_ALLOWED_NETWORKS="127.0.0.0/8").started("publish") as process:
            await asyncio.wait_for(arrived.wait(), 30)
            status, seconds, errors = await asyncio.to_thread(interrupted, process)
    assert status == 0
    assert "Traceback" not in errors
    assert seconds < 3


def _subscribe_and_change(cli: CommandLine, url: str) -> None:
    site = cli.json("site", "create")["site_id"]
    app = cli.json("app", "create", "--name", "Receiver", "--scope", MANAGE)["app_id"]
    cli.words("app", "install", app, site)
    local = cli.having(LEDGER_ALLOWED_NETWORKS="127.0.0.0/8")
    local.words("subscription", "create", app, "--url", url)
    cli.words("settings", "update", "--site", site, "--set", "createInvoice=true")
