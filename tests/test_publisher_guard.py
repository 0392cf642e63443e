"""Which receivers are called, and what a strange reply does."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from publishing import LOOPBACK
from test_publisher_envelope import APP, Keys

from ledger.errors import InvalidInput
from ledger.publisher import check_url
from ledger.publisher.blocking import BlockingCalls
from ledger.publisher.deliver import Courier
from ledger.publisher.guard import Guard, GuardedResolver, ReceiverRefused
from ledger.publisher.letters import Letter
from ledger.publisher.policy import Policy
from ledger.publisher.sign import KeyRack
from ledger.publisher.sink import LARGEST_REPLY, Outcome

TEN = ipaddress.ip_network("10.0.0.0/8")

PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "192.0.0.192",
    "224.0.0.251",
    "::1",
    "::",
    "fd00::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    """However it is written, also over TLS."""
    assert Guard().refusal(ipaddress.ip_address(address), encrypted=True) is not None


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_a_public_address_is_called_over_tls_only(address: str) -> None:
    """https:// goes; http:// is only for networks that are listed."""
    place = ipaddress.ip_address(address)
    assert Guard().refusal(place, encrypted=True) is None
    assert "https:// is required" in str(Guard([TEN]).refusal(place, encrypted=False))


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3"])
def test_a_listed_network_is_called_with_and_without_tls(address: str) -> None:
    """Whatever is_global says of it."""
    place = ipaddress.ip_address(address)
    assert Guard([TEN]).refusal(place, encrypted=True) is None
    assert Guard([TEN]).refusal(place, encrypted=False) is None


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "https:///path",
        "https://user:secret@example.com/",
        "https://127.0.0.1/hook",
        "https://[::1]/hook",
        "https://[::ffff:10.0.0.1]/hook",
        "http://example.com/hook",
        "https://example.com:99999/",
        "https://example.com:0/",
    ],
)
def test_a_url_that_can_never_be_called_is_refused_at_once(url: str) -> None:
    """Without looking anything up, and without repeating a password."""
    with pytest.raises(InvalidInput) as caught:
        check_url(url, ())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "networks"),
    [
        ("https://example.com/hook?x=1", ()),
        ("https://1.1.1.1/hook", ()),
        ("http://10.0.0.1:8080/hook", (TEN,)),
        ("http://inside.example/hook", (TEN,)),
    ],
)
def test_a_url_that_may_be_called_is_accepted(url: str, networks: Any) -> None:
    """A name is judged when it is called."""
    check_url(url, networks)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names and the addresses that they stand for."""
    known: dict[str, list[str]] = {}

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        kind = socket.SOCK_STREAM
        return [
            (socket.AF_INET6 if ":" in place else socket.AF_INET, kind, 6, "", (place, port))
            for place in known[host]
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


async def test_of_a_names_addresses_only_those_are_kept_that_may_be_called(
    names: dict[str, list[str]],
) -> None:
    """A public and a private one: the private one is never connected."""
    names["mixed.example"] = ["10.0.0.1", "1.1.1.1", "::1"]
    names["inside.example"] = ["10.0.0.1", "::1"]
    resolver = GuardedResolver(Guard(), encrypted=True)
    kept = await resolver.resolve("mixed.example", 443)
    assert [result["host"] for result in kept] == ["1.1.1.1"]
    with pytest.raises(ReceiverRefused, match=r"10\.0\.0\.1 .*; ::1 "):
        await resolver.resolve("inside.example", 443)


def test_a_socket_is_made_only_for_an_address_that_may_be_called() -> None:
    """The last look, at the very address that is connected next."""
    info = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))
    with pytest.raises(ReceiverRefused):
        Guard().socket_for(info, encrypted=True)
    Guard(LOOPBACK).socket_for(info, encrypted=True).close()


# Raw receivers

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw(script: Script) -> AsyncIterator[str]:
    """A server that reads a request's head and then does as ``script`` says; its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?token=secret"


def destination(url: str) -> Any:
    """A subscription as far as a courier needs to know it."""
    return SimpleNamespace(
        subscription_id=APP, app_id=APP, event_type="a.b_updated", url=url, certificate=None
    )


async def attempt(url: str, seconds: float = 0.2, networks: Any = LOOPBACK) -> Outcome:
    """One attempt with that timeout."""
    blocking = BlockingCalls()
    try:
        async with Courier(KeyRack(Keys()), networks, blocking) as courier:
            letter = Letter(1, APP, 2, APP, "id", "{}")
            return await courier.attempt(destination(url), letter, Policy(timeout=seconds))
    finally:
        blocking.close()


def replying(*parts: bytes) -> Script:
    """Answer with these bytes and hang up."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return script


async def endless_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + bytes(0x1000) + b"\r\n")
        await writer.drain()


async def slow_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-")
    await reader.read()
    await reader.read()


async def test_a_reply_without_end_is_dropped_after_64_kib() -> None:
    """The status counts; the rest is not waited for."""
    async with raw(endless_body) as url:
        outcome = await attempt(url, 20.0)
    assert outcome.received


async def test_a_reply_that_trickles_fails_at_the_timeout() -> None:
    """One deadline holds for head and body."""

    async def slow_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
        await reader.read()
        await reader.read()

    for script in (slow_head, slow_body):
        async with raw(script) as url:
            assert (await attempt(url)).problem == "no whole answer within 0.2 s"


async def test_a_redirect_is_not_followed() -> None:
    """It would lead wherever the receiver likes."""
    reply = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with raw(replying(reply)) as url:
        outcome = await attempt(url, 20.0)
    assert outcome.problem == "answered 302 instead of 200; redirects are not followed"


async def test_a_compressed_reply_is_not_unpacked() -> None:
    """What claims to be gzip is read as the bytes that came."""
    reply = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"
    async with raw(replying(reply)) as url:
        assert (await attempt(url, 20.0)).received


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (b"", "closed the connection without an answer"),
        (b"220 mail.example ESMTP\r\n", "answered what is not HTTP"),
    ],
)
async def test_what_is_no_answer_is_told_apart(reply: bytes, problem: str) -> None:
    """The operator reads what happened, and never the URL: it may hold a secret."""
    async with raw(replying(reply)) as url:
        outcome = await attempt(url, 20.0)
    assert (outcome.problem or "").startswith(problem)
    assert "secret" not in str(outcome.problem)


async def test_a_connection_that_is_reset_is_a_failed_attempt() -> None:
    """The receiver took the request and hung up hard (RST), without a word."""

    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with raw(reset) as url:
        outcome = await attempt(url, 20.0)
    assert not outcome.received
    assert outcome.status is None


async def test_a_head_without_end_is_a_failed_attempt() -> None:
    """Headers are limited: who sends more has not answered."""
    endless = b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 200_000 + b"\r\n\r\n"
    async with raw(replying(endless)) as url:
        outcome = await attempt(url, 20.0)
    assert not outcome.received


async def test_a_port_where_nobody_listens_is_a_failed_attempt() -> None:
    """Said as an operator would."""
    async with raw(replying()) as url:
        pass
    assert (await attempt(url, 20.0)).problem == "cannot be reached: Connection refused"


async def test_tls_where_there_is_none_is_a_failed_attempt() -> None:
    """The handshake fails; nothing is sent in the clear."""
    async with raw(replying(b"HTTP/1.1 200 OK\r\n\r\n")) as url:
        outcome = await attempt(url.replace("http://", "https://"), 0.3)
    assert not outcome.received


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would connect for us, past the guard."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with raw(replying(reply)) as url:
        assert (await attempt(url, 20.0)).received


def test_the_largest_reply_is_as_documented() -> None:
    """64 KiB."""
    assert LARGEST_REPLY == 65536
