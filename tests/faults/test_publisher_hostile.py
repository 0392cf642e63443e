"""Receivers that mean harm, beside one that does not; both get everything once they behave."""

from __future__ import annotations

import asyncio

import pytest
from publishing import World, flip
from receivers import Receiver

from faults.delivery import complete, examine, recorded, running
from faults.raw_receivers import (
    RawReceiver,
    Script,
    dripping,
    endless,
    gzip_bomb,
    redirecting,
    replying,
    reset,
)
from ledger.publisher import Choices, DeliveryOperator

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

FAILING: dict[str, Script] = {
    "slow head": dripping(HEAD + b"X-Slow: ", b"a"),
    "slow body": dripping(CHUNKED, b"1\r\na\r\n"),
    "endless head": endless(HEAD, b"X-More: " + b"a" * 1000 + b"\r\n"),
    "reset": reset,
    "no answer": replying(),
    "no HTTP": replying(b"220 mail.example ESMTP\r\n"),
}
RECEIVING: dict[str, Script] = {
    "endless body": endless(CHUNKED, b"1000\r\n" + bytes(0x1000) + b"\r\n"),
    "gzip bomb": gzip_bomb(),
}


async def beside_a_good_one(world: World, hostile: RawReceiver, url: str = "") -> None:
    """While one is hostile the other gets everything; once it is not, it does too."""
    async with hostile, Receiver() as good:
        sites = [world.site() for _ in range(4)]
        bad_id = world.ledger.directory.subscribe(world.app.app_id, url or hostile.url)
        DeliveryOperator(world.ledger.database).set_policy(
            bad_id.subscription_id, Choices(timeout=0.2, delays=[0.02] * 2000)
        )
        world.subscribe(good)
        async with running(world, probes=(0.02,)):
            for site in sites:
                await asyncio.to_thread(flip, site, 3)
            expected = recorded(world)
            await good.until(lambda it: complete(it, expected))
            await hostile.until(lambda it: hostile.calls > 3)
            hostile.script = None
            await hostile.until(lambda it: complete(it, expected))
    examine(good, expected)
    examine(hostile, expected)


@pytest.mark.fault(
    "slow-loris in the head and in the body, a head without end, no HTTP, no answer, a reset "
    "after the request",
    "G1 G2 G3 G5 G7",
)
@pytest.mark.parametrize("name", FAILING)
async def test_an_answer_that_is_none(world: World, name: str) -> None:
    """It is a failed attempt, at the latest at the timeout."""
    await beside_a_good_one(world, RawReceiver(FAILING[name]))


@pytest.mark.fault("a body without end, a gzip bomb", "G1 G2 G3 G5 G7")
@pytest.mark.parametrize("name", RECEIVING)
async def test_a_200_with_too_much_behind_it(world: World, name: str) -> None:
    """The status counts: nothing is sent again, nothing is unpacked or read to the end."""
    hostile = RawReceiver(RECEIVING[name], received=True)
    await beside_a_good_one(world, hostile)
    assert len(hostile.arrivals) == len({arrival.id for arrival in hostile.arrivals})


@pytest.mark.fault("a reset as soon as it is connected", "G1 G2 G3 G5 G7")
async def test_a_reset_after_accept(world: World) -> None:
    """The request is not even read."""
    await beside_a_good_one(world, RawReceiver(reset, deaf=True))


@pytest.mark.fault("a redirect to a private address that may even be called", "G1 G2 G3 G5 G7")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_leads_nowhere(world: World, status: int) -> None:
    """Where it points nobody calls; it is a failed attempt."""
    async with RawReceiver() as trap:
        await beside_a_good_one(world, RawReceiver(redirecting(status, trap.url)))
        assert trap.calls == 0


@pytest.mark.fault("TLS that fails", "G2 G5 G7")
async def test_tls_that_fails(world: World) -> None:
    """Nothing is sent in the clear, and the other gets everything."""
    async with RawReceiver(replying(b"no TLS here\r\n"), deaf=True) as hostile, Receiver() as good:
        site = world.site()
        url = hostile.url.replace("http://", "https://")
        world.ledger.directory.subscribe(world.app.app_id, url)
        world.subscribe(good)
        async with running(world, schedule=(0.02,) * 2000):
            await asyncio.to_thread(flip, site, 3)
            expected = recorded(world)
            await good.until(lambda it: complete(it, expected))
            await hostile.until(lambda _: hostile.calls > 3)
    examine(good, expected)
    assert hostile.arrivals == []
    assert world.rows("SELECT * FROM dead_letters") == []
    (lane,) = world.rows("SELECT version, last_error FROM delivery_lanes")
    assert lane["version"] == 2
    assert lane["last_error"].startswith("TLS failed")
