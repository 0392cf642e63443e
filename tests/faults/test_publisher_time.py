"""Time: two days without an answer, answers at the last moment, clocks that jump."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import jwt
import pytest
from publishing import World, flip
from receivers import Arrival, Receiver

from faults.clock import Clock, stopped_clock, until
from faults.delivery import complete, examine, recorded, running
from ledger.publisher import ORDERED_DELAYS
from ledger.publisher.breaker import FAILURES, PROBES, Breaker
from ledger.publisher.policy import HOUR, Policy
from ledger.publisher.term import Term

SITES, CHANGES_AN_HOUR = 50, 4

# Whether a kept connection is too old to be used again is judged by another clock.
ALONE = {"Connection": "close"}


def breaker_of(term: Term) -> Breaker:
    """The breaker of the one subscription."""
    (slots,) = term._slots.values()
    return slots.breaker


def kept(world: World) -> dict[str, int]:
    """How many rows the publisher keeps of what is not delivered yet, and of what it tried."""
    (row,) = world.rows(
        """
        SELECT (SELECT count(*) FROM delivery_lanes) AS lanes,
               (SELECT count(*) FROM dead_letters) AS dead_letters,
               (SELECT count(*) FROM delivery_cursors) AS cursors,
               (SELECT count(*) FROM delivery_breakers) AS breakers,
               (SELECT coalesce(sum(cardinality(positions)), 0) FROM delivery_attempts)
                   AS attempts
        """
    )
    return row


async def an_hour_of_probes(clock: Clock, term: Term, receiver: Receiver) -> None:
    """Let an hour pass, stopping wherever a probe is due to wait for its answer."""
    breaker, end = breaker_of(term), clock.now + HOUR
    while (state := breaker.opened) is not None and clock.now + state.seconds <= end:
        arrived = len(receiver.arrivals)
        clock.advance(state.seconds)
        await until(lambda state=state: breaker.opened and breaker.opened.probes > state.probes)
        assert len(receiver.arrivals) == arrived + 1, breaker.opened
    clock.advance(end - clock.now)


class Ramp:
    """Answers 200, and notes that no more requests are open than a ramp-up allows."""

    def __init__(self) -> None:
        self.answered = self.open = 0
        self.most = 0
        self.steep: list[tuple[int, int]] = []

    async def __call__(self, _: Arrival) -> int:
        self.open += 1
        self.most = max(self.most, self.open)
        if self.open > max(1, 2 ** (self.answered - 1)):
            self.steep.append((self.open, self.answered))
        for _ in range(20):  # Whoever else may come by now, comes.
            await asyncio.sleep(0)
        self.open -= 1
        self.answered += 1
        return 200


@pytest.mark.slow
@pytest.mark.fault("an endpoint down for 48 hours of simulated time", "G1 G2 G3 G7")
async def test_an_endpoint_is_down_for_two_days(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is probed on the schedule, nothing accumulates, and in the end all arrives in order."""
    dice, hours = random.Random(48), []
    async with Receiver(lambda _: 503) as receiver:
        receiver.reply_headers = ALONE
        with stopped_clock(monkeypatch) as clock:
            sites = [world.site() for _ in range(SITES)]
            world.subscribe(receiver)
            for site in sites:
                await asyncio.to_thread(flip, site)
            async with world.term(schedule=ORDERED_DELAYS, lease=600.0) as term:
                await term.sweep()
                await until(lambda: breaker_of(term).opened)
                for _ in range(48):
                    for site in dice.sample(sites, CHANGES_AN_HOUR):
                        await asyncio.to_thread(flip, site)
                    await term.sweep()
                    await an_hour_of_probes(clock, term, receiver)
                    await term.checkpoint()
                    hours.append(kept(world))
                tried = len(receiver.arrivals)
                receiver.answer = ramp = Ramp()
                clock.advance(PROBES[-1] * 1.1)
                expected = recorded(world)
                await until(lambda: complete(receiver, expected) and term.quiet)
                await term.checkpoint()
                after = kept(world)
    assert len(expected) == SITES + 48 * CHANGES_AN_HOUR
    examine(receiver, expected)
    in_flight = Policy().in_flight
    assert all(hour["lanes"] <= in_flight + FAILURES for hour in hours)
    assert {(hour["lanes"], hour["cursors"], hour["breakers"]) for hour in hours[1:]} == {
        (hours[1]["lanes"], 1, 1)
    }
    assert {hour["dead_letters"] for hour in [*hours, after]} == {0}
    assert hours[-1]["attempts"] == tried
    assert 48 * HOUR / (PROBES[-1] * 1.1) < tried < 48 * HOUR / PROBES[-1] + in_flight + 20
    assert (after["lanes"], after["breakers"]) == (0, 0)
    assert ramp.steep == []
    assert ramp.most > 8
    _assert_signed_when_sent(receiver.arrivals[-1], time.time() + clock.passed)


def _assert_signed_when_sent(arrival: Arrival, now: float) -> None:
    claims = jwt.decode(arrival.body, options={"verify_signature": False})
    assert claims["iat"] <= now + 60
    assert claims["exp"] > now


@pytest.mark.fault("a 200 just inside and just outside the timeout", "G1 G2 G3 G7")
@pytest.mark.parametrize("seconds", [1.25, 10.0])
@pytest.mark.parametrize("early", [True, False])
async def test_a_200_close_to_the_timeout(
    world: World, monkeypatch: pytest.MonkeyPatch, seconds: float, early: bool
) -> None:
    """A millisecond before it the event is received; a millisecond after it comes again."""
    released = asyncio.Event()

    async def answer(_: Arrival) -> int:
        await released.wait()
        return 200

    async with Receiver(answer) as receiver:
        receiver.reply_headers = ALONE
        with stopped_clock(monkeypatch) as clock:
            clock.advance(0.5 - clock.now % 1)  # Nothing is hidden by rounding to whole seconds.
            site = world.site()
            world.subscribe(receiver)
            await asyncio.to_thread(flip, site)
            async with world.term(timeout=seconds, schedule=(HOUR,) * 3, lease=600.0) as term:
                await term.sweep()
                await until(lambda: receiver.arrivals)
                clock.advance(seconds + (-0.001 if early else 0.001))
                if early:
                    released.set()
                await until(lambda: term.quiet)
                await term.checkpoint()
                lanes = world.rows("SELECT version, last_error FROM delivery_lanes")
                released.set()
                clock.advance(HOUR * 1.1)
                times = 1 if early else 2
                await until(lambda: term.quiet and len(receiver.arrivals) == times)
    late = {"version": 2, "last_error": f"no whole answer within {seconds:g} s"}
    assert lanes == ([] if early else [late])
    examine(receiver, recorded(world))


@pytest.mark.fault("the clock of the publisher jumps an hour either way", "G1 G2 G3 G7")
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
    examine(receiver, recorded(world))


@pytest.mark.fault("the clock of the database jumps an hour either way", "G1 G2 G3 G7")
@pytest.mark.parametrize("jump", ["1 hour", "-1 hour"])
async def test_the_databases_clock_jumps_an_hour(world: World, nursery: Any, jump: str) -> None:
    """What it stamped looks an hour old, or of the future: nobody's lease outlives its process."""
    async with Receiver(lambda a: 500 if a.version == 3 else 200) as receiver:
        sites = [world.site() for _ in range(3)]
        world.subscribe(receiver)
        async with nursery.publisher(world, schedule=[0.05] * 1000) as doomed:
            for site in sites:
                await asyncio.to_thread(flip, site, 3)
            await receiver.until(lambda it: sum(a.version == 3 for a in it.arrivals) > 9)
            with world.ledger.database.connection() as connection:
                connection.execute(
                    "UPDATE publishers SET expires_at = expires_at - %s::interval", (jump,)
                )
                connection.execute(
                    "UPDATE delivery_lanes SET next_attempt_at = next_attempt_at - %s::interval",
                    (jump,),
                )
            await receiver.received(len(receiver.arrivals) + 3)
            await doomed.kill()
        receiver.answer = lambda _: 200
        expected = recorded(world)
        async with nursery.publisher(world, farewell=0.05):
            with world.ledger.database.connection() as connection:
                connection.execute("UPDATE delivery_lanes SET next_attempt_at = clock_timestamp()")
            await receiver.until(lambda it: complete(it, expected))
    examine(receiver, expected)
