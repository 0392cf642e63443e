"""Faults around a publisher at work: receivers that flap, old snapshots, new keys, replays."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import jwt
import psycopg
import pytest
from publishing import World, flip
from receivers import Arrival, Receiver

from faults.delivery import changing, complete, examine, recorded, running
from ledger.publisher import DeliveryOperator

SITES, CHANGES = 4, 6


@pytest.mark.fault("a receiver that is up and down and up", "G1 G2 G3 G7")
async def test_a_flapping_receiver(world: World) -> None:
    """It is up and down and up."""
    dice = random.Random(7)
    async with Receiver() as receiver:
        sites = [world.site() for _ in range(20)]
        world.subscribe(receiver)
        up = [True]

        def answer(_: Arrival) -> int:
            if dice.random() < 0.05:
                up[0] = not up[0]
            return 200 if up[0] else 503

        receiver.answer = answer
        async with running(world, probes=(0.0,)):
            for site in sites:
                await asyncio.to_thread(flip, site, 4)
            expected = recorded(world)
            await receiver.until(lambda it: complete(it, expected))
    examine(receiver, expected)


@pytest.mark.fault("a long idle transaction elsewhere, that has written", "G1 G2 G3 G7")
async def test_an_idle_transaction_elsewhere(world: World, publisher_database: Any) -> None:
    """An old snapshot, and a transaction that wrote, hold up nothing."""
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        with psycopg.connect(publisher_database.admin_url) as idle:
            idle.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            idle.execute("SELECT pg_current_xact_id()")
            async with running(world):
                await asyncio.to_thread(flip, site, 5)
                await receiver.until(lambda it: len(it.acknowledged) == 5)
    examine(receiver, recorded(world))


def signed_with(receiver: Receiver, kid: str) -> bool:
    """Whether the latest arrival names this key."""
    if not receiver.arrivals:
        return False
    return bool(jwt.get_unverified_header(receiver.arrivals[-1].body)["kid"] == kid)


@pytest.mark.fault("keys rotated under load", "G1 G2 G3 G7")
async def test_keys_are_rotated_under_load(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every delivery verifies with a key that is published; the newer one comes into use."""
    monkeypatch.setattr("ledger.publisher.sign.KEY_MEMORY", 0.05)
    directory = world.ledger.directory
    async with Receiver() as receiver:
        sites = [world.site() for _ in range(SITES)]
        world.subscribe(receiver)
        async with running(world):
            async with changing(sites):
                for _ in range(3):
                    rotated = await asyncio.to_thread(directory.rotate_key, world.app.app_id)
                    await receiver.until(lambda it, kid=rotated.kid: signed_with(it, kid))
            expected = recorded(world)
            await receiver.until(lambda it: complete(it, expected))
    keys = {key.kid: key.public_key_pem for key in directory.public_keys(world.app.app_id)}
    for arrival in receiver.arrivals:
        kid = jwt.get_unverified_header(arrival.body)["kid"]
        jwt.decode(arrival.body, keys[kid], algorithms=["RS256"])
    examine(receiver, expected)


@pytest.mark.fault("a replay while live", "G1 G2 G3 G6")
async def test_a_replay_while_live(world: World) -> None:
    """Live deliveries stay in order among themselves, and the replay among itself."""
    async with Receiver() as receiver:
        sites = [world.site() for _ in range(SITES)]
        subscription_id = world.subscribe(receiver)
        operator = DeliveryOperator(world.ledger.database)
        async with running(world):
            for site in sites:
                await asyncio.to_thread(flip, site, CHANGES)
            await receiver.until(lambda it: len(it.acknowledged) == SITES * CHANGES)
            await asyncio.to_thread(operator.replay, subscription_id)
            for site in sites:
                await asyncio.to_thread(flip, site, CHANGES)
            await receiver.until(lambda it: len(it.acknowledged) >= SITES * CHANGES * 3)
    for replayed in (False, True):
        newest: dict[str, int] = {}
        for arrival in receiver.arrivals:
            if ("X-Ledger-Replay" in arrival.headers) is replayed:
                assert arrival.version == newest.get(arrival.entity, 1) + 1
                newest[arrival.entity] = arrival.version
    examine_ids = Counter((a.id, a.data) for a in receiver.arrivals)
    assert len(examine_ids) == SITES * CHANGES * 2
