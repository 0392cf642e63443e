"""Client certificates: who may be one, how it is kept, and that receivers get to see it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from authority import DAY, Authority, Issued
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from nats_server import NatsServer, needs_nats_server
from publishing import LOOPBACK, World, flip
from test_publisher_envelope import APP

from ledger.assembly import Ledger
from ledger.directory import checked_certificate
from ledger.directory.apps import new_signing_key
from ledger.errors import ConfigError, InvalidInput
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.publisher.blocking import BlockingCalls
from ledger.publisher.deliver import Courier
from ledger.publisher.journal import list_attempts
from ledger.publisher.letters import Letter
from ledger.publisher.metrics import exposition
from ledger.publisher.policy import Policy
from ledger.publisher.sign import KeyRack
from ledger.publisher.sink import Outcome
from ledger.publisher.sinks import http
from ledger.publisher.trial import send_test


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """An authority that this machine trusts, as OpenSSL is told."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority


@pytest.fixture
def world(fresh_database: Callable[[], Any]) -> Iterator[World]:
    with Ledger.open(database_url=fresh_database().server_url) as ledger:
        yield World.on(ledger)


class TlsReceiver:
    """Answers 200 to whoever shows a certificate of the authority; who they were, in ``seen``.

    With blocking sockets: asyncio's server hangs up without the alert that says why.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.seen: list[str] = []
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._socket.getsockname()[1]}/hook"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self._answer(self._socket.accept()[0])

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        encrypted = self._context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )
        try:
            encrypted.do_handshake()
            certificate: Any = encrypted.getpeercert()
            encrypted.recv(65536)
            self.seen.append(certificate["subject"][0][0][1])
            encrypted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            encrypted.close()
        except OSError:
            with suppress(OSError), socket.socket(fileno=encrypted.detach()) as refused:
                # A reset would overtake the alert.
                refused.shutdown(socket.SHUT_WR)
                while refused.recv(4096):
                    pass

    def close(self) -> None:
        """Listen no more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextmanager
def receiving(context: ssl.SSLContext) -> Iterator[TlsReceiver]:
    receiver = TlsReceiver(context)
    try:
        yield receiver
    finally:
        receiver.close()


def checked(issued: Issued) -> Any:
    return checked_certificate(issued.certificate, issued.key)


# What is accepted


def test_a_certificate_is_read_with_its_chain(authority: Authority) -> None:
    """Subject, fingerprint and end for people; the chain stays behind it."""
    issued = authority.issue("shop")
    read = checked_certificate(issued.certificate + authority.file.read_bytes(), issued.key)
    assert read.subject == "CN=shop"
    assert len(bytes.fromhex(read.fingerprint)) == 32
    assert read.expires_at > datetime.now(UTC)
    assert read.certificate_pem.count("BEGIN CERTIFICATE") == 2
    assert "PRIVATE KEY" not in repr(read)


def locked(issued: Issued) -> bytes:
    key: Any = load_pem_private_key(issued.key, password=None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


@pytest.mark.parametrize(
    ("certificate", "key", "problem"),
    [
        (lambda a: b"", lambda a, i: i.key, "client_certificate: expected a certificate in PEM"),
        (
            lambda a: a.issue("x").certificate,
            lambda a, i: i.key,
            "client_key: expected the private",
        ),
        (None, lambda a, i: b"junk", "client_key: expected a private key in PEM"),
        (None, lambda a, i: i.certificate, "client_key: expected a private key in PEM"),
        (None, lambda a, i: locked(i), "client_key: expected a private key without a passphrase"),
        (None, lambda a, i: b"x" * 70_000, "client_key: expected at most 65536 bytes"),
    ],
    ids=["no certificate", "another key's", "junk", "no key", "with a passphrase", "too long"],
)
def test_what_is_no_certificate_with_its_key_is_refused(
    authority: Authority, certificate: Any, key: Any, problem: str
) -> None:
    """The sentence names the one of the two that is wrong."""
    issued = authority.issue("shop")
    given = issued.certificate if certificate is None else certificate(authority)
    with pytest.raises(InvalidInput, match=f"^{problem}"):
        checked_certificate(given, key(authority, issued))


def test_a_certificate_outside_its_time_is_refused(authority: Authority) -> None:
    """Expired, or not valid yet."""
    issued = authority.issue("shop")
    for moment, problem in ((2 * DAY, "expired at"), (-3 * DAY, "is not valid before")):
        with pytest.raises(InvalidInput, match=f"^client_certificate: {problem} 20"):
            checked_certificate(issued.certificate, issued.key, datetime.now(UTC) + moment)


def test_a_servers_certificate_is_refused(authority: Authority) -> None:
    """Its extended key usage says what it is for; receivers would refuse it later."""
    with pytest.raises(InvalidInput, match="is not meant for clients"):
        checked(authority.issue("shop", ExtendedKeyUsageOID.SERVER_AUTH))


def test_a_certificate_needs_an_encrypted_url(authority: Authority, world: World) -> None:
    """Nothing is shown over http://, whichever of the two came first."""
    subscribers, given = world.ledger.directory, checked(authority.issue("shop"))
    with pytest.raises(InvalidInput, match="^url: expected https:// or tls://"):
        subscribers.subscribe(world.app.app_id, "http://h/", client_certificate=given)
    kept = subscribers.subscribe(world.app.app_id, "https://h/", client_certificate=given)
    with pytest.raises(InvalidInput, match="^url: expected https:// or tls://"):
        subscribers.update_subscription(kept.subscription_id, url="nats://h")
    assert subscribers.subscription(kept.subscription_id) == kept


def test_the_key_is_kept_encrypted_and_bound_to_its_subscription(
    authority: Authority, world: World
) -> None:
    """A copy of the database shows no key, and none can be moved to another subscription."""
    directory, issued = world.ledger.directory, authority.issue("shop")
    mine, other = (
        directory.subscribe(world.app.app_id, "https://h/", client_certificate=checked(one))
        for one in (issued, authority.issue("other"))
    )
    found = directory.client_certificate(mine.subscription_id)
    assert found is not None
    assert found.private_key_pem == issued.key
    with world.ledger.database.connection() as connection:
        rows = connection.execute("SELECT * FROM subscription_certificates").fetchall()
        assert all(b"PRIVATE KEY" not in str(row).encode() for row in rows)
        assert all(b"PRIVATE KEY" not in bytes(row["private_key"]) for row in rows)
        connection.execute(
            "UPDATE subscription_certificates AS a SET private_key = b.private_key "
            "FROM subscription_certificates AS b "
            "WHERE (a.subscription_id, b.subscription_id) = (%s, %s)",
            (other.subscription_id, mine.subscription_id),
        )
    with pytest.raises(ConfigError, match="altered or belongs to another row"):
        directory.client_certificate(other.subscription_id)


# What receivers see


async def test_a_receiver_sees_the_subscriptions_certificate(
    authority: Authority, world: World
) -> None:
    """Each subscription's own; one without a certificate is refused, and so is another's."""
    directory = world.ledger.directory
    with receiving(authority.server_context()) as receiver:
        for name in ("one", "two"):
            directory.subscribe(
                world.app.app_id,
                receiver.url,
                client_certificate=checked(authority.issue(name)),
            )
        bare = directory.subscribe(world.app.app_id, receiver.url).subscription_id
        flip(world.site(), 2)
        await world.publish(schedule=())
    assert sorted(receiver.seen) == ["one", "one", "two", "two"]
    attempts = list_attempts(world.ledger.database, bare, 10)
    assert len(attempts) == 2
    assert all(one.error for one in attempts)


async def test_a_new_certificate_is_used_at_once_and_its_removal_too(
    authority: Authority, world: World
) -> None:
    """A term that runs needs no restart."""
    directory, site = world.ledger.directory, world.site()
    with receiving(authority.server_context()) as receiver:
        mine = directory.subscribe(
            world.app.app_id, receiver.url, client_certificate=checked(authority.issue("old"))
        ).subscription_id
        async with world.term(schedule=(0.0,)) as term:
            for change in (
                {},
                {"client_certificate": checked(authority.issue("new"))},
                {"without_certificate": True},
            ):
                directory.update_subscription(mine, **change)
                flip(site)
                await term.sweep()
                await term.settled()
    assert receiver.seen == ["old", "new"]
    assert directory.subscription(mine).client_certificate is None
    assert list_attempts(world.ledger.database, mine, 1)[0].error is not None


async def attempt(certificate: Any, url: str) -> Outcome:
    """One attempt that shows this certificate, whatever is wrong with it."""
    key = new_signing_key(APP)
    to = SimpleNamespace(
        subscription_id=APP,
        app_id=APP,
        event_type=ORDERS_SETTINGS.event_type,
        url=url,
        certificate=certificate and certificate.fingerprint,
    )
    keys: Any = SimpleNamespace(signing_key=lambda _: key, client_certificate=lambda _: certificate)
    return await send_test(keys, to, Policy(timeout=30.0), LOOPBACK)


async def test_a_certificate_that_the_receiver_refuses_is_told(
    authority: Authority, tmp_path: Path
) -> None:
    """Of an authority that it does not trust, or none at all: TLS says so, or just hangs up."""
    stranger = checked(Authority(tmp_path, "Stranger").issue("shop"))
    with receiving(authority.server_context()) as receiver:
        wrong, none = await attempt(stranger, receiver.url), await attempt(None, receiver.url)
    assert "client certificate" in (wrong.problem or "")
    assert not none.received
    assert not receiver.seen


def test_prometheus_can_tell_when_a_certificate_ends(authority: Authority, world: World) -> None:
    """In time for an alarm; nothing is said of subscriptions without one, or deleted ones."""
    directory, given = world.ledger.directory, checked(authority.issue("shop"))
    kept, gone = (
        directory.subscribe(world.app.app_id, "https://h/", client_certificate=given)
        for _ in range(2)
    )
    directory.delete_subscription(gone.subscription_id)
    said = exposition(world.ledger.database).decode()
    name = "ledger_client_certificate_expiry_timestamp_seconds{subscription="
    [line] = [line for line in said.splitlines() if line.startswith(name)]
    assert line.startswith(f'{name}"{kept.subscription_id}"')
    assert float(line.split()[-1]) == given.expires_at.timestamp()


async def test_an_expired_certificate_is_not_shown(authority: Authority) -> None:
    """The attempt fails before anything is sent, and says since when."""
    expired = replace(checked(authority.issue("shop")), expires_at=datetime.now(UTC) - DAY)
    with receiving(authority.server_context()) as receiver:
        outcome = await attempt(expired, receiver.url)
    assert (outcome.problem or "").startswith("the client certificate expired at 20")
    assert not receiver.seen


async def test_a_certificate_is_at_hand_before_the_lease_is_judged(authority: Authority) -> None:
    """It is fetched while the letter is signed; whatever is sent waits for no database."""
    key, certificate, asked = new_signing_key(APP), checked(authority.issue("shop")), []

    def fetched(subscription_id: UUID) -> Any:
        asked.append(subscription_id)
        return certificate

    keys: Any = SimpleNamespace(signing_key=lambda _: key, client_certificate=fetched)
    blocking = BlockingCalls()
    with receiving(authority.server_context()) as receiver:
        to = SimpleNamespace(
            subscription_id=APP, app_id=APP, url=receiver.url, certificate=certificate.fingerprint
        )
        async with Courier(KeyRack(keys), LOOPBACK, blocking) as courier:
            parcel = await courier.sign(to, Letter(1, APP, 2, APP, "id", "{}"))
            blocking.close()
            outcome = await courier.send(parcel, Policy(timeout=30.0))
    assert outcome.received
    assert (asked, receiver.seen) == ([APP], ["shop"])


async def test_a_certificate_that_openssl_does_not_take_is_told(authority: Authority) -> None:
    """As a key too short for it would be."""
    broken = replace(checked(authority.issue("shop")), certificate_pem="")
    outcome = await attempt(broken, "https://127.0.0.1:1/")
    assert (outcome.problem or "").startswith("the client certificate cannot be used: ")


async def test_a_receiver_of_another_authority_is_not_trusted(
    authority: Authority, tmp_path: Path
) -> None:
    """A client certificate changes nothing about who the receiver must be."""
    with receiving(Authority(tmp_path, "Stranger").server_context()) as receiver:
        outcome = await attempt(checked(authority.issue("shop")), receiver.url)
    assert (outcome.problem or "").startswith("TLS failed: CERTIFICATE_VERIFY_FAILED: ")
    assert not receiver.seen


def test_no_problem_repeats_the_url() -> None:
    """Not even what aiohttp says of a connection that ended while it was written to."""
    said = aiohttp.ClientOSError(None, "Can not write request body for https://h/?token=secret")
    said.__cause__ = aiohttp.ClientConnectionResetError("Cannot write to closing transport")
    cause = http._cause(said)
    assert http._problem(cause, 1.0) == "closed the connection without an answer"


@needs_nats_server
async def test_a_nats_server_sees_the_subscriptions_certificate(
    authority: Authority, tmp_path: Path, world: World
) -> None:
    """Over tls://, where the server asks who publishes; another's is refused."""
    certificate, key = authority.issue("s", ExtendedKeyUsageOID.SERVER_AUTH).files(tmp_path, "s")
    tls = ssl.create_default_context()
    tls.load_cert_chain(*authority.issue("consumer").files(tmp_path, "consumer"))
    options = ("--tlsverify", "--tlscert", certificate, "--tlskey", key)
    options = (*options, "--tlscacert", authority.file)
    async with NatsServer(tmp_path / "streams", *options, tls=tls) as server:
        await server.add_stream("shop", "settings.>")
        url = server.url.replace("nats://", "tls://")
        world.ledger.directory.subscribe(
            world.app.app_id, url, client_certificate=checked(authority.issue("shop"))
        )
        flip(world.site())
        await world.publish()
        assert len(await server.messages("shop")) == 1
        wrong = await attempt(checked(Authority(tmp_path, "Stranger").issue("x")), url)
        none = await attempt(None, url)
    assert "client certificate" in (wrong.problem or "")
    assert "client certificate" in (none.problem or "")
