"""Publishers that are killed with kill -9: another goes on, and only what was in flight comes again.

The number of random kills is an option; the whole of it:

    pytest tests/faults/test_publisher_kills.py --random-kills 100
"""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
from collections import Counter

import pytest
from publishing import World, flip
from receivers import Arrival, Receiver

from faults.clock import until
from faults.delivery import all_arrived, changing, examine, once_refused, recorded
from faults.nursery import Nursery
from faults.publisher_failing import POINTS
from ledger.publisher import Choices, DeliveryOperator
from ledger.publisher.lease import Lease
from ledger.publisher.policy import Policy

SITES, CHANGES = 4, 6
AT_ONCE = 0.05
"""Seconds until a killed process's feeds are free; a second where one may still be at work."""

MOST_IN_FLIGHT = Policy().in_flight + Policy().retries_in_flight


def acknowledged_again(receiver: Receiver) -> int:
    """How many were sent again although they had been received."""
    times = Counter(arrival.id for arrival in receiver.acknowledged)
    return sum(times.values()) - len(times)


@pytest.mark.fault(
    "kill -9 before send, after send before reading, after acknowledge before checkpoint, in "
    "checkpoint, in lane write",
    "G1 G2 G3 G4 G7",
)
@pytest.mark.parametrize("passes", [0, 3])
@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_a_named_point(
    world: World, nursery: Nursery, point: str, passes: int
) -> None:
    """kill -9 there: another process delivers the rest; only what was in flight comes again."""
    async with Receiver(once_refused(random.Random(passes))) as receiver:
        sites = [world.site() for _ in range(SITES)]
        world.subscribe(receiver)
        for site in sites:
            flip(site, CHANGES)
        turns = itertools.cycle(sites)
        async with nursery.publisher(world, point=point, passes=passes) as doomed:
            while doomed.alive:  # a publisher with nothing to do reaches no point
                await asyncio.to_thread(flip, next(turns))
            assert await doomed.wait() == -signal.SIGKILL
        expected = recorded(world)
        async with nursery.publisher(world, farewell=AT_ONCE):
            await all_arrived(receiver, expected)
    examine(receiver, expected)
    assert acknowledged_again(receiver) <= MOST_IN_FLIGHT


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.fault("kill -9 at random moments under load", "G1 G2 G3 G4 G7")
async def test_killed_at_random_under_load(
    world: World, nursery: Nursery, random_kills: int
) -> None:
    """Whenever it is killed, and however often."""
    dice = random.Random(5)
    async with Receiver(once_refused(dice)) as receiver:
        sites = [world.site() for _ in range(SITES)]
        world.subscribe(receiver)
        async with changing(sites):
            for _ in range(random_kills):
                async with nursery.publisher(world, farewell=AT_ONCE) as doomed:
                    await receiver.received(len(receiver.arrivals) + dice.randrange(30))
                    await doomed.kill()
        expected = recorded(world)
        async with nursery.publisher(world, farewell=AT_ONCE):
            await all_arrived(receiver, expected)
    examine(receiver, expected)
    assert acknowledged_again(receiver) <= MOST_IN_FLIGHT * random_kills


@pytest.mark.fault("kill -9 with as many requests in flight as may be", "G1 G2 G3 G4 G7")
@pytest.mark.parametrize("in_flight", [1, 4, 32])
async def test_only_what_was_in_flight_is_repeated(
    world: World, nursery: Nursery, in_flight: int
) -> None:
    """Of all that was sent before the kill, no more comes again than may be in flight at once."""
    held = asyncio.Event()
    async with Receiver() as receiver:
        sites = [world.site() for _ in range(2 * in_flight)]
        operator = DeliveryOperator(world.ledger.database)
        operator.set_policy(world.subscribe(receiver), Choices(in_flight=in_flight))
        policy = Policy(in_flight=in_flight)
        most = in_flight + min(in_flight, policy.retries_in_flight)

        async def answer(_: Arrival) -> int:
            if len(receiver.arrivals) > 3 * in_flight:
                await held.wait()
            return 200

        receiver.answer = answer
        for site in sites:
            flip(site, 3)
        async with nursery.publisher(world) as doomed:
            await receiver.received(4 * in_flight)
            await doomed.kill()
        sent_before = Counter(arrival.id for arrival in receiver.arrivals)
        assert set(sent_before.values()) == {1}
        receiver.answer = lambda _: 200
        held.set()
        expected = recorded(world)
        async with nursery.publisher(world, farewell=AT_ONCE):
            await all_arrived(receiver, expected)
    examine(receiver, expected)
    sent = Counter(arrival.id for arrival in receiver.arrivals)
    repeated = [event_id for event_id in sent_before if sent[event_id] > 1]
    assert max(sent.values()) <= 2
    assert len(repeated) <= most


@pytest.mark.fault("kill -9 or SIGSTOP, judged by the lease's own clock", "G1 G2 G3 G4 G7")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_feeds_are_taken_over_once_the_lease_has_run_out(
    world: World, nursery: Nursery, how: signal.Signals
) -> None:
    """No sweep that ends before that takes them, and the first that begins after it does."""
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        async with nursery.publisher(world, lease=2.0, timeout=0.4) as doomed:
            await asyncio.to_thread(flip, site)
            await receiver.until(lambda it: len(it.acknowledged) == 1)
            (lease,) = world.rows("SELECT publisher_id FROM publishers")

            def over() -> bool:
                rows = world.rows(
                    "SELECT *, expires_at < clock_timestamp() AS over FROM publishers"
                )
                return all(
                    row["over"] for row in rows if row["publisher_id"] == lease["publisher_id"]
                )

            async with world.publisher().term() as other:
                doomed.signal(how)
                while not other.feeds:
                    was_over = over()
                    await other.sweep()
                    assert bool(other.feeds) or not was_over
                assert over()
                await asyncio.to_thread(flip, site)
                await other.sweep()
                await receiver.until(lambda it: it.acknowledged[-1].version == 3)
                await other.settled()
    examine(receiver, recorded(world))


@pytest.mark.fault("a lease that runs out while an attempt waits for room", "G2 G4")
async def test_a_lease_is_judged_last_of_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waited until progress was written asks again whether it may still send."""
    lasts, judged = [True], [0]

    def holds_for(_: Lease, _seconds: float) -> bool:
        judged[0] += 1
        return lasts[0]

    monkeypatch.setattr(Lease, "holds_for", holds_for)
    async with Receiver() as receiver:
        sites = [world.site() for _ in range(5)]
        operator = DeliveryOperator(world.ledger.database)
        operator.set_policy(world.subscribe(receiver), Choices(in_flight=1))
        for site in sites:
            await asyncio.to_thread(flip, site)
        async with world.publisher().term(hurry=lambda: None) as term:
            await term.sweep()
            await receiver.until(lambda it: len(it.acknowledged) == 2)
            lasts[0] = False
            before = judged[0]
            await term.checkpoint()
            await until(lambda: len(receiver.arrivals) > 2 or judged[0] > before)
            assert len(receiver.arrivals) == 2
            lasts[0] = True
            while len(receiver.acknowledged) < 5:
                await term.checkpoint()
                await asyncio.sleep(0)
            await term.settled()
    examine(receiver, recorded(world))
