"""``serve`` and ``publish`` run until they are asked to stop, and then end at once."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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
def test_a_signal_ends_serve(cli, number):
    """It answers once it printed its address; a signal ends it with 0 and without a traceback.

    A client that keeps its connection open does not hold it up.
    """
    with cli.started("serve", "--port", 0) as process:
        address = urlsplit(listening_address(process))
        idle = http.client.HTTPConnection(address.netloc, timeout=30)
        idle.request("GET", "/readyz")
        assert idle.getresponse().read() == b'{"status":"ready"}'
        status, errors = interrupted(process, number)
        idle.close()
    assert status == 0
    assert "Traceback" not in errors


def test_serve_ends_while_a_client_still_sends(cli):
    """A request that never comes to its end is cut off with a reply, not with a traceback."""
    with cli.started("serve", "--port", 0) as process:
        address = urlsplit(listening_address(process))
        with socket.create_connection((address.hostname, address.port), timeout=30) as half:
            headers = b"Host: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            half.sendall(b"POST /oauth2/token HTTP/1.1\r\n" + headers)
            half.sendall(b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n")
            assert half.recv(100).startswith(b"HTTP/1.1 100 ")
            status, errors = interrupted(process)
            answer = half.recv(10_000)
    assert status == 0
    assert "Traceback" not in errors
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert b"x-wix-request-id" in answer.lower()


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET /\x00 HTTP/9\r\n\r\n"])
def test_what_is_no_http_gets_the_contracts_body(cli, garbage):
    """TLS on the plain port, or any other bytes: 400 as everything else is refused, with an id."""
    with cli.serving("--no-publish") as address:
        place = urlsplit(address)
        with socket.create_connection((place.hostname, place.port), timeout=30) as caller:
            caller.sendall(garbage)
            answer = http.client.HTTPResponse(caller)
            answer.begin()
            body = json.loads(answer.read())
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-wix-request-id"]
    assert body["details"]["applicationError"]["code"] == "INVALID_ARGUMENT"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the server's processes in /proc")
def test_serve_ends_while_the_database_is_frozen(tmp_path):
    """Reads are answered 503 in time, and Ctrl-C needs no answer from a server that is stopped."""
    own = CommandLine(tmp_path / "data")
    with own.started("serve", "--port", 0) as process:
        address = listening_address(process)
        with frozen(own.data_dir):
            status, answer = _get(address, "/.well-known/jwks.json")
            assert status == 503
            assert answer["details"]["applicationError"]["code"] == "UNAVAILABLE"
            status, errors = interrupted(process)
    assert status == 1
    assert "Traceback" not in errors
    assert "The database does not answer" in errors


@contextmanager
def frozen(data_dir: Path) -> Iterator[None]:
    """The data directory's server as if its machine stood still."""
    [pidfile] = data_dir.rglob("postmaster.pid")
    server = int(pidfile.read_text().split()[0])
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    processes = [server, *map(int, children)]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


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
            status, errors = await asyncio.to_thread(interrupted, process)
    assert status == 0
    assert "Traceback" not in errors


def _subscribe_and_change(cli: CommandLine, url: str) -> None:
    site = cli.json("site", "create")["site_id"]
    app = cli.json("app", "create", "--name", "Receiver", "--scope", MANAGE)["app_id"]
    cli.words("app", "install", app, site)
    local = cli.having(LEDGER_ALLOWED_NETWORKS="127.0.0.0/8")
    local.words("subscription", "create", app, "--url", url)
    cli.words("settings", "update", "--site", site, "--set", "createInvoice=true")
