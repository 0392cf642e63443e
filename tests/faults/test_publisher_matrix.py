"""Faults against the publisher: the ledger is compared with what receivers really got.

Each row of the matrix is a test here or in ``test_publisher_faults.py``. ``examine`` holds for
every one: G1 all arrived, G2 first sent in order per site, G3 the same id and data each time.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import psycopg
import pytest
from publishing import World, flip, site_of
from receivers import Arrival, Receiver

from ledger.assembly import Ledger
from ledger.publisher import DeliveryOperator
from ledger.publisher.policy import Policy

from .publisher_failing import POINTS

PROCESS = Path(__file__).with_name("publisher_failing.py")
SITES, CHANGES = 4, 6
RANDOM_KILLS = 6


@pytest.fixture
def database(fresh_database: Callable[[], Any]) -> Any:
    return fresh_database()


@pytest.fixture
def world(database: Any, tmp_path: Path) -> Iterator[World]:
    with Ledger.open(database_url=database.server_url, data_dir=tmp_path) as ledger:
        yield World.on(ledger)


@asynccontextmanager
async def process(
    world: World, point: str = POINTS[0], passes: int = 1_000_000
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A publisher process that dies at ``point``, gone at the end of the block in any case."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROCESS),
        world.ledger.database_url,
        str(world.ledger.config.data_dir),
        point,
        str(passes),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


@asynccontextmanager
async def running(world: World, **options: Any) -> AsyncIterator[None]:
    """A publisher beside the test."""
    stop = asyncio.Event()
    work = asyncio.create_task(world.publisher(poll_interval=0.02, **options).run(stop))
    try:
        yield
    finally:
        stop.set()
        await work


def examine(receiver: Receiver, expected: set[tuple[str, int]]) -> None:
    """G1, G2 and G3, from nothing but what arrived."""
    assert {(a.entity, a.version) for a in receiver.acknowledged} == expected
    newest: dict[str, int] = {}
    for arrival in receiver.arrivals:
        before = newest.get(arrival.entity, 1)
        assert arrival.version <= before + 1
        newest[arrival.entity] = max(arrival.version, before)
    seen: dict[tuple[str, int], tuple[str, str]] = {}
    for arrival in receiver.arrivals:
        one = (arrival.id, arrival.data)
        assert seen.setdefault((arrival.entity, arrival.version), one) == one


def events(world: World) -> set[tuple[str, int]]:
    """What the ledger has recorded."""
    rows = world.rows("SELECT originator_id, originator_version AS version FROM events")
    return {(str(row["originator_id"]), row["version"]) for row in rows if row["version"] > 1}


def complete(receiver: Receiver, expected: set[tuple[str, int]]) -> bool:
    """Whether everything was acknowledged."""
    return {(a.entity, a.version) for a in receiver.acknowledged} == expected


def once_refused(dice: random.Random) -> Callable[[Arrival], int]:
    """An answer that refuses a third of all events once, so that lanes come and go."""
    seen: set[str] = set()

    def answer(arrival: Arrival) -> int:
        first = arrival.id not in seen
        seen.add(arrival.id)
        return 500 if first and dice.random() < 1 / 3 else 200

    return answer


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("passes", [0, 3])
@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_a_named_point(world: World, point: str, passes: int) -> None:
    """kill -9 there: another process delivers the rest; only what was in flight comes again."""
    async with Receiver(once_refused(random.Random(passes))) as receiver:
        sites = [world.site() for _ in range(SITES)]
        world.subscribe(receiver)
        for site in sites:
            flip(site, CHANGES)
        turns = itertools.cycle(sites)
        async with process(world, point, passes) as doomed:
            while doomed.returncode is None:  # a publisher with nothing to do reaches no point
                await asyncio.to_thread(flip, next(turns))
            expected = events(world)
            assert await doomed.wait() == -signal.SIGKILL
        async with process(world):
            await receiver.until(lambda it: complete(it, expected))
    examine(receiver, expected)
    again = Counter(arrival.id for arrival in receiver.acknowledged)
    most = Policy().in_flight + Policy().retries_in_flight
    assert sum(again.values()) - len(again) <= most


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_killed_at_random_under_load(world: World) -> None:
    """Whenever it is killed, and however often."""
    dice = random.Random(5)
    async with Receiver(once_refused(dice)) as receiver:
        sites = [world.site() for _ in range(SITES)]
        world.subscribe(receiver)
        for _ in range(RANDOM_KILLS):
            async with process(world) as doomed:
                arrived = len(receiver.arrivals)
                for site in sites:
                    await asyncio.to_thread(flip, site, dice.randrange(1, 8))
                await receiver.received(arrived + dice.randrange(1, 4))
                doomed.kill()
        expected = events(world)
        async with process(world):
            await receiver.until(lambda it: complete(it, expected))
    examine(receiver, expected)


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
            expected = events(world)
            await receiver.until(lambda it: complete(it, expected))
    examine(receiver, expected)


async def test_an_idle_transaction_elsewhere(world: World, database: Any) -> None:
    """An old snapshot, and a transaction that wrote, hold up nothing."""
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        with psycopg.connect(database.admin_url) as idle:
            idle.execute("SELECT pg_current_xact_id()")
            async with running(world):
                await asyncio.to_thread(flip, site, 5)
                await receiver.until(lambda it: len(it.acknowledged) == 5)
    examine(receiver, events(world))


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_the_clock_jumps_an_hour(
    world: World, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """Schedules and leases go by a clock that does not jump; tokens are of the new time."""
    async with Receiver(lambda a: 500 if a.version == 3 else 200) as receiver:
        site = world.site()
        world.subscribe(receiver)
        async with running(world, schedule=(0.05,) * 100):
            await asyncio.to_thread(flip, site, 3)
            await receiver.received(3)
            real = time.time
            monkeypatch.setattr(time, "time", lambda: real() + jump)
            begun = len(receiver.arrivals)
            await receiver.received(begun + 2)
            receiver.answer = lambda _: 200
            await receiver.until(lambda it: len(it.acknowledged) == 3)
    claims = jwt.decode(receiver.arrivals[-1].body, options={"verify_signature": False})
    assert abs(claims["iat"] - (real() + jump)) < 60
    examine(receiver, events(world))


async def test_keys_are_rotated_under_load(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every delivery verifies with a key that is published; the newer one comes into use."""
    monkeypatch.setattr("ledger.publisher.sign.KEY_MEMORY", 0.05)
    directory = world.ledger.directory
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        async with running(world):
            for _ in range(3):
                await asyncio.to_thread(flip, site, 3)
                rotated = await asyncio.to_thread(directory.rotate_key, world.app.app_id)
            while jwt.get_unverified_header(receiver.arrivals[-1].body)["kid"] != rotated.kid:
                arrived = len(receiver.arrivals)
                await asyncio.to_thread(flip, site)
                await receiver.received(arrived + 1)
    keys = {key.kid: key.public_key_pem for key in directory.public_keys(world.app.app_id)}
    for arrival in receiver.arrivals:
        kid = jwt.get_unverified_header(arrival.body)["kid"]
        jwt.decode(arrival.body, keys[kid], algorithms=["RS256"])
    examine(receiver, events(world))


async def test_one_site_always_fails_among_many(world: World) -> None:
    """Every other site gets everything, and the bad one ends in a dead letter."""
    async with Receiver() as receiver:
        bad, *good = [world.site() for _ in range(100)]
        world.subscribe(receiver)
        bad_id = str(bad.site_id)
        receiver.answer = lambda a: 500 if site_of(a) == bad_id else 200
        async with running(world, schedule=(0.0,) * 5):
            for site in (bad, *good):
                await asyncio.to_thread(flip, site, 2)
            await receiver.until(lambda it: len({a.id for a in it.acknowledged}) == 198)
            await receiver.until(lambda it: sum(site_of(a) == bad_id for a in it.arrivals) == 12)
    letters = DeliveryOperator(world.ledger.database).dead_letters()
    assert [str(letter.site_id) for letter in letters] == [bad_id] * 2


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
