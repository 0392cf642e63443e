"""Signing processes give the same signatures, and their loss costs nothing but time."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from uuid import uuid4

import jwt
import pytest
from conftest import TestDatabase
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from publishing import World, flip
from receivers import Receiver

from ledger import Ledger
from ledger.directory.apps import new_signing_key
from ledger.publisher import sign, signers
from ledger.publisher.signer import Pair
from ledger.publisher.signers import Signers


@pytest.fixture(scope="module")
def pair() -> Pair:
    pem = new_signing_key(uuid4()).private_key_pem
    return Pair(load_pem_private_key(pem, None), sign.ed25519_key(pem))


@pytest.fixture
def world(fresh_database: Callable[[], TestDatabase]) -> Iterator[World]:
    with Ledger.open(database_url=fresh_database().server_url) as ledger:
        yield World.on(ledger)


@pytest.fixture
async def busy(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> AsyncIterator[Signers]:
    """One that has started a process."""
    monkeypatch.setattr(signers, "BUSY", 1)
    pool = Signers(most=1)
    await pool.sign(pair, b"", b"")
    assert pool._starting is not None
    await pool._starting
    yield pool
    await pool.close()


async def test_a_process_signs_as_its_publisher_does(busy: Signers, pair: Pair) -> None:
    """Many at once, answered each with its own; both algorithms give one signature for one text."""
    contents = [str(number).encode() * 500 for number in range(50)]
    signed = await asyncio.gather(*(busy.sign(pair, b"id.1.", text) for text in contents))
    assert signed == [pair.sign(b"id.1.", text) for text in contents]
    assert busy.processes == 1


async def test_more_keys_than_a_process_remembers(
    busy: Signers, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that was given up for others is told again."""
    process = busy._running[0]
    monkeypatch.setattr(signers, "SLOTS", 2)
    process._slots = signers.LRUCache(2)
    pairs = [Pair(pair.rsa, sign.ed25519_key(bytes([number]))) for number in range(4)]
    for one in [*pairs, *pairs]:
        assert await busy.sign(one, b"", b"content") == one.sign(b"", b"content")


async def test_a_process_that_is_killed_is_done_without(busy: Signers, pair: Pair) -> None:
    """What it owed is signed here, and so is what comes after."""
    os.kill(busy._running[0]._transport.get_pid(), signal.SIGSTOP)
    owed = asyncio.gather(*(busy.sign(pair, b"", b"content") for _ in range(3)))
    await asyncio.sleep(0)
    os.kill(busy._running[0]._transport.get_pid(), signal.SIGKILL)
    assert await owed == [pair.sign(b"", b"content")] * 3
    assert await busy.sign(pair, b"", b"more") == pair.sign(b"", b"more")
    assert busy.processes == 0


async def test_a_process_that_hangs_is_given_up(
    busy: Signers, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it for ever."""
    monkeypatch.setattr(signers, "PATIENCE", 0.0)
    os.kill(busy._running[0]._transport.get_pid(), signal.SIGSTOP)
    assert await busy.sign(pair, b"", b"content") == pair.sign(b"", b"content")
    assert busy.processes == 0


async def test_deliveries_signed_elsewhere_verify(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token and webhook headers are those of the app's own keys."""
    monkeypatch.setattr(signers, "BUSY", 1)
    monkeypatch.setattr(signers, "_processors", lambda: 2)
    key = world.ledger.directory.signing_key(world.app.app_id)
    public = base64.b64decode(sign.webhook_public_key(key.private_key_pem)[5:])
    async with Receiver() as receiver:
        sites = [world.site() for _ in range(3)]
        world.subscribe(receiver)
        async with world.term() as term:
            pool = term._tools.courier._signers
            await asyncio.to_thread(flip, sites[0])
            await term.sweep()
            await term.settled()
            await pool._starting
            for site in sites:
                await asyncio.to_thread(flip, site, 2)
            await term.sweep()
            await term.settled()
    assert len(receiver.arrivals) == 7
    for arrival in receiver.arrivals:
        claims = jwt.decode(arrival.body, world.app.public_key_pem, algorithms=["RS256"])
        assert json.loads(claims["data"])["eventType"]
        headers = arrival.headers
        signature = base64.b64decode(headers["webhook-signature"].partition(",")[2])
        opening = f"{headers['webhook-id']}.{headers['webhook-timestamp']}."
        Ed25519PublicKey.from_public_bytes(public).verify(
            signature, (opening + arrival.body).encode()
        )


def test_of_many_who_miss_a_key_one_fetches_it() -> None:
    """A thousand subscriptions of one app do not ask for its key a thousand times."""

    class Keys:
        asked = 0

        def signing_key(self, app_id: object) -> object:
            self.asked += 1
            time.sleep(0)
            return new_signing_key(uuid4())

    keys, app_id = Keys(), uuid4()
    rack = sign.KeyRack(keys)
    fetched: list[object] = []
    threads = [
        threading.Thread(target=lambda: fetched.append(rack.fetch(app_id))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert keys.asked == 1
    assert len(set(map(id, fetched))) == 1
