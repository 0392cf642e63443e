"""Many sites and many subscriptions: who fails holds up nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid5

import pytest
from aiohttp import web
from publishing import World, flip, site_of
from receivers import Arrival, Receiver

from faults.delivery import Version, all_arrived, complete, examine, recorded, running
from ledger.publisher import DeliveryOperator

CROWD = 1000
CALLERS = 16


async def at_once(work: Callable[[Any], Any], things: Iterable[Any]) -> list[Any]:
    """Do the same with each, many at a time."""
    with ThreadPoolExecutor(CALLERS) as callers:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(callers, work, one) for one in things))


@pytest.mark.slow
@pytest.mark.fault(
    "one site that always fails and one that never answers, among 1,000", "G1 G2 G3 G5 G7"
)
async def test_a_bad_site_and_a_stuck_one_among_many(world: World) -> None:
    """While they fail every other site gets everything; in the end the bad one has dead letters."""
    async with Receiver() as receiver:
        bad, stuck, *good = await at_once(lambda _: world.site(), range(CROWD))
        world.subscribe(receiver)
        bad_id, stuck_id, over = str(bad.site_id), str(stuck.site_id), asyncio.Event()

        async def answer(arrival: Arrival) -> int:
            if site_of(arrival) == stuck_id:
                await over.wait()
            return 500 if site_of(arrival) == bad_id else 200

        receiver.answer = answer
        for site in (bad, stuck):
            await asyncio.to_thread(flip, site, 2)
        await at_once(flip, good)
        expected = recorded(world)
        async with running(world, schedule=(0.0,) * 5, timeout=60.0):
            troubled = {str(uuid5(site.site_id, bad.record().kind)) for site in (bad, stuck)}
            await all_arrived(receiver, [one for one in expected if one[0] not in troubled])
            assert stuck_id not in {site_of(a) for a in receiver.acknowledged}
            over.set()
            await receiver.until(lambda it: sum(site_of(a) == bad_id for a in it.arrivals) == 12)
            await receiver.until(lambda it: len({a.id for a in it.acknowledged}) == CROWD)
    given_up = {(a.entity, a.version) for a in receiver.arrivals if site_of(a) == bad_id}
    examine(receiver, expected, given_up)
    letters = DeliveryOperator(world.ledger.database).dead_letters()
    assert [str(letter.site_id) for letter in letters] == [bad_id] * 2


class Switchboard(Receiver):
    """One server for many subscriptions, each with a receiver of its own: ``?line=17``."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self.lines = [Receiver() for _ in range(lines)]
        self.answered = 0

    async def _receive(self, request: web.Request) -> web.Response:
        answer = await self.lines[int(request.query["line"])]._receive(request)
        self.answered += 1
        await self._tell()
        return answer

    async def all_complete(self, lines: list[Receiver], expected: Collection[Version]) -> None:
        """Wait until these have everything; fails when nothing more comes."""
        lacking = list(lines)
        while lacking := [one for one in lacking if not complete(one, expected)]:
            before = self.answered
            await self.until(lambda _, before=before: self.answered > before)


@pytest.mark.slow
@pytest.mark.fault("1,000 subscriptions, one of them to a receiver that hangs", "G1 G2 G3 G5 G7")
async def test_a_thousand_subscriptions(world: World) -> None:
    """While one hangs each of the others gets every event; and that one, too, in the end."""
    async with Switchboard(CROWD) as switchboard:
        stuck, *others = switchboard.lines
        app_id, subscribe = world.app.app_id, world.ledger.directory.subscribe
        urls = [f"{switchboard.url}?line={line}" for line in range(CROWD)]
        await at_once(lambda url: subscribe(app_id, url), urls)
        sites = [world.site(), world.site()]
        over = asyncio.Event()

        async def hang(_: Arrival) -> int:
            await over.wait()
            return 200

        stuck.answer = hang
        async with running(world, timeout=60.0):
            for site in sites:
                await asyncio.to_thread(flip, site)
            expected = recorded(world)
            await switchboard.all_complete(others, expected)
            assert not stuck.acknowledged
            over.set()
            await switchboard.until(lambda _: complete(stuck, expected))
    for line in switchboard.lines:
        examine(line, expected)
