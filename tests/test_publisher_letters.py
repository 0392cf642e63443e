"""Feeds that stand at the same place read the log once for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import TestDatabase
from publishing import World, flip
from receivers import Receiver

from ledger import Ledger
from ledger.publisher import letters
from ledger.publisher.spans import Span


@pytest.fixture
def world(fresh_database: Callable[[], TestDatabase]) -> Iterator[World]:
    with Ledger.open(database_url=fresh_database().server_url) as ledger:
        yield World.on(ledger)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From which position on the log was read, once for each time."""
    found: list[int] = []
    read = letters.read_after

    def watched(connection: Any, partition: int, position: int, limit: int) -> Any:
        found.append(position)
        return read(connection, partition, position, limit)

    monkeypatch.setattr(letters, "read_after", watched)
    return found


async def test_subscriptions_of_one_app_share_what_is_read(world: World, reads: list[int]) -> None:
    """Twenty subscriptions at the head of the log cost one reading for each growth of it."""
    async with Receiver() as receiver:
        site = world.site()
        for _ in range(20):
            world.subscribe(receiver)
        async with world.term() as term:
            await term.sweep()
            await term.settled()
            for count in (1, 2):
                await asyncio.to_thread(flip, site)
                await term.glance()
                await term.settled()
                assert len(receiver.arrivals) == 20 * count
    assert len(reads) == 2


async def test_each_app_reads_for_itself(world: World, reads: list[int]) -> None:
    """An app gets what happens on the sites on which it is installed, whoever else reads."""
    other = world.ledger.directory.create_app("Other", ["SCOPE.DC-ECOM-MEGA.MANAGE-ECOM"])
    async with Receiver() as mine, Receiver() as theirs:
        site, elsewhere = world.site(), world.site(other.app_id)
        world.subscribe(mine)
        world.ledger.directory.subscribe(other.app_id, theirs.url)
        flip(site)
        flip(elsewhere, 2)
        await world.publish()
    assert (len(mine.arrivals), len(theirs.arrivals)) == (1, 2)
    assert len(reads) == 2


async def test_what_was_received_before_is_left_out_for_one_feed_only(
    world: World, reads: list[int]
) -> None:
    """Feeds share a reading though some have had parts of it."""
    reader = letters.LetterReader(world.ledger.database)
    async with Receiver() as receiver:
        world.subscribe(receiver)
        flip(world.site(), 3)
        async with world.term() as term:
            await term.sweep()
            [feed] = term._feeds.values()
            fresh = feed.span
    span = Span(**{name: getattr(fresh, name) for name in Span.__slots__} | {"beyond": [3, 3]})
    head = fresh.head
    whole = reader.after(fresh, fresh.position, head, 10).letters
    part = reader.after(span, fresh.position, head, 10).letters
    assert [one.position for one in part] == [one.position for one in whole if one.position != 3]
    assert len(whole) == len(part) + 1
