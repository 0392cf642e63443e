"""What the guarantees say, checked against what receivers really got; and load to check it under."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from publishing import World
from receivers import Arrival, Receiver

from ledger.errors import LedgerError
from ledger.publisher import Publisher

PACE = 0.05
"""Seconds between two changes of one site under load."""

Version = tuple[str, int]
"""An entity's id and one of its versions."""


def recorded(world: World) -> dict[Version, str]:
    """Every change that the ledger has recorded, and its event's id."""
    rows = world.rows(
        "SELECT originator_id, originator_version AS version, state FROM events "
        "WHERE originator_version > 1"
    )
    return {
        (str(row["originator_id"]), row["version"]): json.loads(row["state"])["event_id"]
        for row in rows
    }


def complete(receiver: Receiver, expected: Collection[Version]) -> bool:
    """Whether all of it was acknowledged."""
    return {(a.entity, a.version) for a in receiver.acknowledged} >= set(expected)


async def all_arrived(receiver: Receiver, expected: Collection[Version]) -> None:
    """Wait until all of it was acknowledged; fails when nothing more comes."""
    missing, looked = set(expected), 0
    while missing:
        await receiver.until(lambda it, looked=looked: len(it.acknowledged) > looked)
        missing -= {(one.entity, one.version) for one in receiver.acknowledged[looked:]}
        looked = len(receiver.acknowledged)


def examine(
    receiver: Receiver, expected: dict[Version, str], given_up: Collection[Version] = ()
) -> None:
    """G1, G2, G3 and G7, from nothing but the ledger and what arrived.

    All was acknowledged but what was ``given_up``; a version first came after the one before
    was acknowledged or given up; id and data are the same each time; nothing came that the
    ledger does not have.
    """
    assert {(a.entity, a.version) for a in receiver.acknowledged} == expected.keys() - given_up
    examine_order(receiver, given_up)
    seen: dict[Version, tuple[str, str]] = {}
    for arrival in receiver.arrivals:
        version = (arrival.entity, arrival.version)
        one = (arrival.id, arrival.data)
        assert seen.setdefault(version, one) == one
        assert arrival.id == expected[version]


def examine_order(receiver: Receiver, given_up: Collection[Version] = ()) -> None:
    """G2: when a version first came, the one before it was done with."""
    first: set[Version] = set()
    done = set(given_up)
    acknowledged = iter(receiver.acknowledged)
    told = 0
    for arrival, before in zip(receiver.arrivals, receiver.acknowledged_before, strict=True):
        for one in _next(acknowledged, before - told):
            done.add((one.entity, one.version))
        told = before
        version = (arrival.entity, arrival.version)
        if version not in first:
            first.add(version)
            assert arrival.version == 2 or (arrival.entity, arrival.version - 1) in done


def _next(arrivals: Iterable[Arrival], count: int) -> list[Arrival]:
    return [one for _, one in zip(range(count), arrivals, strict=False)]


def once_refused(dice: random.Random) -> Callable[[Arrival], int]:
    """An answer that refuses a third of all events once, so that lanes come and go."""
    seen: set[str] = set()

    def answer(arrival: Arrival) -> int:
        first = arrival.id not in seen
        seen.add(arrival.id)
        return 500 if first and dice.random() < 1 / 3 else 200

    return answer


@asynccontextmanager
async def running(world: World, **options: Any) -> AsyncIterator[Publisher]:
    """A publisher beside the test."""
    stop, publisher = asyncio.Event(), world.publisher(poll_interval=0.02, **options)
    work = asyncio.create_task(publisher.run(stop))
    try:
        yield publisher
    finally:
        stop.set()
        await work


class Load:
    """Changes each site twenty times a second, whatever fails."""

    def __init__(self) -> None:
        self._over = asyncio.Event()

    async def change(self, site: Any) -> None:
        """Until it is over."""
        value = False
        while not self._over.is_set():
            value = not value
            try:
                await asyncio.to_thread(site.update, {"createInvoice": value})
            except LedgerError:  # The database is away, or nobody knows what came of it.
                value = not value
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), PACE)

    def end(self) -> None:
        """Change nothing more."""
        self._over.set()


@asynccontextmanager
async def changing(sites: Collection[Any]) -> AsyncIterator[None]:
    """Load for the length of the block."""
    load = Load()
    tasks = [asyncio.create_task(load.change(site)) for site in sites]
    try:
        yield
    finally:
        load.end()
        await asyncio.gather(*tasks)
