"""An endpoint that fails as a whole: it is left alone, nothing accumulates, nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from publishing import World, flip, site_of
from receivers import Receiver

from ledger.assembly import Ledger
from ledger.publisher.breaker import FAILURES, SITES, Breaker


@pytest.fixture
def world(fresh_database: Callable[[], Any]) -> Iterator[World]:
    with Ledger.open(database_url=fresh_database().server_url) as ledger:
        yield World.on(ledger)


async def attempt(breaker: Breaker, problem: str | None, site: UUID, *, fresh: bool = True) -> bool:
    """One attempt with this end; whether it was a probe."""
    probe = await breaker.enter(fresh=fresh)
    breaker.leave(problem, site, probe=probe, fresh=fresh)
    return probe


async def opened(probes: tuple[float, ...]) -> Breaker:
    """A breaker that has just opened."""
    breaker, sites = Breaker(8, probes), [uuid4() for _ in range(SITES)]
    for number in range(FAILURES):
        assert breaker.opened is None
        await attempt(breaker, "answered 500", sites[number % SITES])
    assert breaker.opened is not None
    return breaker


async def test_one_success_begins_the_count_anew() -> None:
    """Only failures in a row say that the endpoint fails as a whole."""
    breaker = Breaker(8)
    for _ in range(3):
        for _ in range(FAILURES - 1):
            await attempt(breaker, "answered 500", uuid4())
        await attempt(breaker, None, uuid4())
    assert breaker.opened is None


async def test_few_sites_and_retries_open_nothing() -> None:
    """A bad site shuts out no other, however often it fails."""
    breaker, sites = Breaker(8), [uuid4() for _ in range(SITES - 1)]
    for _ in range(FAILURES * 3):
        for site in sites:
            await attempt(breaker, "answered 500", site)
        await attempt(breaker, "answered 500", uuid4(), fresh=False)
    assert breaker.opened is None


async def test_probes_follow_the_schedule_one_at_a_time() -> None:
    """While one probe is under way everybody else waits; each failure takes the next step."""
    breaker = await opened((0.0, 0.0, 3600.0))
    assert await breaker.enter(fresh=True)
    others = [asyncio.create_task(breaker.enter(fresh=fresh)) for fresh in (True, False)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in others)
    breaker.leave("answered 500", uuid4(), probe=True, fresh=True)
    assert await others[0]
    breaker.leave("answered 502", uuid4(), probe=True, fresh=True)
    state = breaker.opened
    assert state is not None
    assert (state.probes, state.last_error) == (2, "answered 502")
    assert 3500 < state.seconds <= 3960
    assert not others[1].done()
    others[1].cancel()


async def test_after_recovery_it_ramps_up() -> None:
    """One at a time, then two, four, and then as many as before."""
    breaker = await opened((0.0,))
    assert await attempt(breaker, None, uuid4())
    assert breaker.opened is None
    for passing in (1, 2, 4):
        for _ in range(passing):
            assert not await breaker.enter(fresh=True)
        one_more = asyncio.create_task(breaker.enter(fresh=True))
        await asyncio.sleep(0)
        assert not one_more.done()
        one_more.cancel()
        await asyncio.gather(one_more, return_exceptions=True)
        for number in range(passing):
            if number:
                breaker.abandon(probe=False)
            else:
                breaker.leave(None, uuid4(), probe=False, fresh=True)
    for _ in range(20):
        assert not await breaker.enter(fresh=True)


async def test_a_dead_endpoint_stops_the_cursor_and_recovers_without_loss(
    world: World,
) -> None:
    """Few lanes, no dead letters however short the schedule; after recovery all in order."""
    async with Receiver(lambda _: 503) as receiver:
        sites = [world.site() for _ in range(60)]
        world.subscribe(receiver)
        for site in sites:
            flip(site)
        async with world.term(schedule=(3600.0,), probes=(0.0,)) as term:
            await term.sweep()
            await receiver.received(200)
            await term.checkpoint()
            lanes = world.rows("SELECT * FROM delivery_lanes")
            assert len(lanes) <= 32 + FAILURES
            assert world.rows("SELECT * FROM dead_letters") == []
            (breaker,) = world.rows("SELECT * FROM delivery_breakers")
            assert breaker["last_error"] == "answered 503 instead of 200"
            receiver.answer = lambda _: 200
            waiting = {str(lane["originator_id"]) for lane in lanes}
            await receiver.until(
                lambda it: len({a.entity for a in it.acknowledged} - waiting) == 60 - len(waiting)
            )
            await term.settled()
            await term.checkpoint()
            assert world.rows("SELECT * FROM delivery_breakers") == []
    assert world.rows("SELECT * FROM dead_letters") == []


async def test_another_subscription_is_none_the_worse(world: World) -> None:
    """Each endpoint has a breaker of its own."""
    async with Receiver(lambda _: 503) as dead, Receiver() as well:
        sites = [world.site() for _ in range(20)]
        world.subscribe(dead)
        world.subscribe(well)
        for site in sites:
            flip(site)
        async with world.term(schedule=(3600.0,), probes=(3600.0,)) as term:
            await term.sweep()
            await well.until(lambda it: len(it.acknowledged) == 20)
            await dead.received(FAILURES)
    assert {site_of(a) for a in well.acknowledged} == {str(site.site_id) for site in sites}
