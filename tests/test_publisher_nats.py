"""Events in NATS JetStream: the same letters as over HTTP, in a real server's streams."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import pytest
from nats_server import NatsServer, needs_nats_server
from publishing import World, flip, site_of
from receivers import PATIENCE, Arrival
from test_publisher_guard import attempt

from ledger.assembly import Ledger
from ledger.errors import InvalidInput
from ledger.publisher import DeliveryOperator, check_url
from ledger.publisher.journal import list_attempts

SOON = (0.02,) * 2000


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path / "streams") as server:
        yield server


@pytest.fixture
def world(fresh_database: Callable[[], Any]) -> Iterator[World]:
    with Ledger.open(database_url=fresh_database().server_url) as ledger:
        yield World.on(ledger)


def subscribe(world: World, url: str) -> UUID:
    return world.ledger.directory.subscribe(world.app.app_id, url).subscription_id


def arrivals(messages: list[Any]) -> list[Arrival]:
    return [Arrival.of(message.data.decode(), dict(message.headers)) for message in messages]


@needs_nats_server
async def test_an_event_arrives_with_what_http_would_have_carried(
    server: NatsServer, world: World
) -> None:
    """The signed token as the message, the same headers, and a subject that names the site."""
    await server.add_stream("shop", "acme.shop.>")
    subscription_id, site = subscribe(world, f"{server.url}/acme.shop"), world.site()
    flip(site)
    await world.publish()
    [message] = await server.messages("shop")
    [arrival] = arrivals([message])
    assert message.subject == f"acme.shop.orders_settings_updated.{site.site_id}"
    claims = jwt.decode(arrival.body, world.app.public_key_pem, algorithms=["RS256"])
    assert claims["data"] == arrival.data
    headers = dict(message.headers)
    assert headers.pop("Nats-Msg-Id") == f"{arrival.id}.{subscription_id}"
    assert headers.pop("webhook-id") == arrival.id
    assert headers.pop("webhook-signature").startswith("v1a,")
    assert headers.pop("webhook-timestamp").isdigit()
    assert headers == {"Content-Type": "text/plain", "User-Agent": "settings-ledger"}


class CrashError(Exception):
    """Nothing more is written."""


@pytest.mark.fault("a crash before progress is written, into a NATS stream", "G1 G2 G4")
@needs_nats_server
async def test_what_a_crash_sends_again_is_stored_once_and_in_order(
    server: NatsServer, world: World
) -> None:
    """The server knows the ids: every site's versions stand there one after the other, once."""
    await server.add_stream("shop", "settings.>")
    subscription_id, sites = subscribe(world, server.url), [world.site() for _ in range(3)]
    for site in sites * 4:
        flip(site)
    with suppress(CrashError):
        async with world.term() as term:
            await term.sweep()
            await term.settled()
            raise CrashError
    assert not list_attempts(world.ledger.database, subscription_id, 100)
    await world.publish()
    assert len(list_attempts(world.ledger.database, subscription_id, 100)) == 12
    got = arrivals(await server.messages("shop"))
    for site in sites:
        versions = [one.version for one in got if site_of(one) == str(site.site_id)]
        assert versions == [2, 3, 4, 5]


@pytest.mark.fault("a NATS server killed and started again", "G1 G2")
@needs_nats_server
async def test_nothing_is_lost_when_the_server_is_killed_and_comes_back(
    server: NatsServer, world: World
) -> None:
    """Events recorded before, while it is away and after all stand in the stream, in order."""
    await server.add_stream("shop", "settings.>")
    subscribe(world, server.url)
    sites, stop = [world.site() for _ in range(4)], asyncio.Event()
    publisher = world.publisher(schedule=SOON, probes=(0.02,), timeout=5.0)
    publishing = asyncio.create_task(publisher.run(stop))
    for _ in range(2):
        for site in sites * 3:
            await asyncio.to_thread(flip, site)
        await server.kill()
        for site in sites * 2:
            await asyncio.to_thread(flip, site)
        await server.start()
    async with asyncio.timeout(PATIENCE), server.client() as client:
        followed = await client.jetstream().subscribe("settings.>", ordered_consumer=True)
        got = [arrivals([await followed.next_msg(PATIENCE)])[0] for _ in range(40)]
    stop.set()
    await publishing
    for site in sites:
        versions = [one.version for one in got if site_of(one) == str(site.site_id)]
        assert versions == list(range(2, 12))


@needs_nats_server
async def test_a_subject_that_no_stream_takes_is_told_and_becomes_a_dead_letter(
    server: NatsServer, world: World
) -> None:
    """As with a receiver that answers an error: attempts, and in the end a dead letter."""
    await server.add_stream("shop", "other.>")
    subscription_id, site = subscribe(world, server.url), world.site()
    flip(site)
    await world.publish(schedule=(0.0,))
    problem = f"no stream takes the subject settings.orders_settings_updated.{site.site_id}"
    attempts = list_attempts(world.ledger.database, subscription_id, 10)
    assert [(one.error, one.status) for one in attempts] == [(problem, None)] * 2
    [letter] = DeliveryOperator(world.ledger.database).dead_letters(subscription_id)
    assert (letter.last_error, letter.attempts) == (problem, 2)
    assert not await server.messages("shop")


@needs_nats_server
async def test_a_stream_that_is_full_is_told(server: NatsServer, world: World) -> None:
    """What the server says of its refusal, with its code for a status."""
    async with server.client() as client:
        await client.jetstream().add_stream(
            name="shop", subjects=["settings.>"], max_msgs=1, discard="new"
        )
    subscription_id, site = subscribe(world, server.url), world.site()
    flip(site, 2)
    await world.publish(schedule=())
    newest, _ = list_attempts(world.ledger.database, subscription_id, 10)
    assert (newest.error, newest.status) == (
        "the stream refused it: maximum messages exceeded",
        503,
    )


@needs_nats_server
async def test_a_shared_stream_and_a_replay_lose_nothing_to_the_servers_memory(
    server: NatsServer, world: World
) -> None:
    """Each subscription's event is a message of its own, and so is what is sent again on demand."""
    await server.add_stream("all", "one.>", "two.>")
    first = subscribe(world, f"{server.url}/one")
    subscribe(world, f"{server.url}/two")
    flip(world.site())
    await world.publish()
    replay = DeliveryOperator(world.ledger.database).replay(first)
    await world.publish()
    messages = await server.messages("all")
    assert [message.subject[:3] for message in messages[:2]] in (["one", "two"], ["two", "one"])
    assert messages[2].subject.startswith("one.")
    assert len({one.id for one in arrivals(messages)}) == 1
    assert messages[2].headers["X-Ledger-Replay"] == str(replay.replay_id)


@needs_nats_server
async def test_a_server_that_is_not_allowed_is_not_called(server: NatsServer) -> None:
    """The guard judges the address of a nats:// URL as any other."""
    outcome = await attempt(server.url, 20.0, networks=())
    assert outcome.problem == (
        "refused: 127.0.0.1 is not a public address and in none of the allowed networks"
    )


@needs_nats_server
async def test_nothing_is_sent_in_the_clear_to_a_tls_url(server: NatsServer) -> None:
    """A server, or somebody on the way to it, that offers no TLS gets nothing."""
    outcome = await attempt(server.url.replace("nats://", "tls://"), 20.0)
    assert outcome.problem == "the server refused: the server offers no TLS"


@needs_nats_server
async def test_a_server_that_wants_a_password_says_so(tmp_path: Path) -> None:
    """Only a client certificate proves here who publishes."""
    async with NatsServer(tmp_path / "streams", "--user", "u", "--pass", "p") as server:
        outcome = await attempt(server.url, 20.0)
    assert outcome.problem == "the server refused: 'Authorization Violation'"


@asynccontextmanager
async def saying(*parts: bytes, again: bytes = b"") -> AsyncIterator[str]:
    """What listens like a NATS server and says this, ``again`` for ever; its URL."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            for part in parts:
                writer.write(part)
            while again:
                writer.write(again)
                await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"nats://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


INFO = b'INFO {"server_id":"x","version":"2.11.0","headers":true,"max_payload":1048576}\r\n'


@pytest.mark.parametrize(
    ("parts", "again", "problem"),
    [
        ((), b"", "the server refused: empty response from server when expecting INFO message"),
        ((b"220 mail\r\n",), b"", "the server refused: empty response"),
        ((b"INFO {" + b"x" * 100_000,), b"", "answered what is not JetStream"),
        ((INFO, b"PONG\r\n"), b"+OK\r\n" * 1000, "the server closed the connection"),
        ((INFO, b"PONG\r\n"), b"x" * 5000, "the server closed the connection"),
        ((INFO, b"PONG\r\n"), b"INFO {\r\n", "the server closed the connection"),
    ],
    ids=["hangs up", "other protocol", "line without end", "talks for ever", "noise", "no JSON"],
)
async def test_what_is_no_nats_server_is_a_failed_attempt(
    parts: tuple[bytes, ...], again: bytes, problem: str
) -> None:
    """It ends by itself, not by the deadline, and little is read."""
    async with saying(*parts, again=again) as url:
        outcome = await attempt(url, 60.0)
    assert (outcome.problem or "").startswith(problem)


async def test_a_server_that_says_nothing_fails_at_the_timeout() -> None:
    """One deadline holds from name look-up to acknowledgement."""
    async with saying(again=b"") as url:
        pass
    assert (await attempt(url, 20.0)).problem == "cannot be reached: Connection refused"

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        outcome = await attempt(f"nats://127.0.0.1:{port}", 0.2)
    assert outcome.problem == "not acknowledged within 0.2 s"


@pytest.mark.parametrize("url", ["nats://h/a b", "nats://h/a.>", "nats://h/a?b", "tls://h/a..b"])
def test_a_prefix_that_is_no_subject_is_refused(world: World, url: str) -> None:
    """Wildcards, empty parts and queries."""
    with pytest.raises(InvalidInput, match="^url: "):
        subscribe(world, url)


def test_without_the_extra_there_is_no_subscription(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clear sentence instead of attempts that fail."""
    monkeypatch.setitem(sys.modules, "nats", None)
    with pytest.raises(InvalidInput, match=r"pip install 'settings-ledger\[nats\]'"):
        check_url("tls://nats.example", ())


async def test_without_the_extra_an_attempt_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where one process of several lacks it."""
    monkeypatch.setitem(sys.modules, "nats", None)
    outcome = await attempt("tls://nats.example", 20.0)
    assert outcome.problem == "tls:// needs an extra: pip install 'settings-ledger[nats]'"
