"""Nothing is lost: killed processes, terminated connections, a lost doorbell, a second publisher."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from faults.delivery import examine, recorded
from publishing import World, flip
from receivers import PATIENCE, Arrival, Receiver

from ledger.assembly import Ledger
from ledger.doorbell import Listener
from ledger.errors import DatabaseUnavailable
from ledger.publisher import Publisher, PublisherThread
from ledger.publisher.lease import Lease, LeaseLost
from ledger.publisher.term import Term

PROCESS = Path(__file__).with_name("publisher_process.py")


@pytest.fixture
def world(database: Any, tmp_path: Path) -> Iterator[World]:
    with Ledger.open(database_url=database.server_url, data_dir=tmp_path) as ledger:
        yield World.on(ledger)


@asynccontextmanager
async def publishing_process(
    world: World, lease: float = 20.0
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A publisher process, gone at the end of the block."""
    config = world.ledger.config
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROCESS),
        world.ledger.database_url,
        str(config.data_dir),
        str(lease),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def running(publisher: Publisher) -> AsyncIterator[asyncio.Event]:
    """A publisher at work beside the test, stopped at the end of the block."""
    stop = asyncio.Event()
    work = asyncio.create_task(publisher.run(stop))
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(work, PATIENCE)


@pytest.mark.fault(
    "kill -9 while the receiver has the event and the publisher not its answer", "G1 G2 G3 G4 G7"
)
async def test_killed_between_post_and_cursor_an_event_comes_again_with_its_id(
    world: World,
) -> None:
    """kill -9 while the receiver has the event and the publisher not its answer."""
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        flip(site, 2)
        async with publishing_process(world) as first:

            def kill(arrival: Arrival) -> int:
                if arrival.version == 3 and first.returncode is None:
                    os.kill(first.pid, signal.SIGKILL)
                return 200

            receiver.answer = kill
            await first.wait()
        assert [a.version for a in receiver.arrivals] == [2, 3]
        async with publishing_process(world):
            await receiver.until(lambda it: it.arrivals[-1].version == 3 and len(it.arrivals) > 2)
        flip(site)
        async with running(world.publisher(poll_interval=0.02)):
            await receiver.until(lambda it: it.arrivals[-1].version == 4)
    examine(receiver, recorded(world))


@pytest.mark.fault("kill -9 beside a process that waits", "G1 G2 G3 G7")
async def test_a_waiting_process_takes_over_from_one_that_was_killed(world: World) -> None:
    """Two processes: one publishes; when it is killed in the middle the other goes on."""
    async with Receiver() as receiver:
        sites = [world.site() for _ in range(5)]
        world.subscribe(receiver)
        async with publishing_process(world) as first:
            flip(sites[0])
            await receiver.received(1)
            async with publishing_process(world):
                await eventually(lambda: _listeners(world) == 2)
                for site in sites:
                    await asyncio.to_thread(flip, site, 4)
                first.kill()
                await receiver.until(lambda it: len(_known(it.acknowledged)) == 21)
    examine(receiver, recorded(world))


async def test_two_share_the_feeds_and_one_gets_all_when_the_other_goes(world: World) -> None:
    """Nobody has more than a fair share, and no feed has two owners."""
    async with Receiver() as receiver:
        site = world.site()
        for _ in range(5):
            world.subscribe(receiver)
        async with world.publisher().term() as first:
            await first.sweep()
            assert len(first.feeds) == 5
            async with world.publisher().term() as second:
                await second.sweep()
                assert len(second.feeds) == 0
                await first.sweep()
                assert len(first.feeds) == 3
                await second.sweep()
                assert len(second.feeds) == 2
                assert not set(first.feeds) & set(second.feeds)
                await asyncio.to_thread(flip, site, 2)
                await first.sweep()
                await second.sweep()
                await receiver.until(lambda it: len(it.acknowledged) == 10)
                await second.settled()
            await first.sweep()
            assert len(first.feeds) == 5
            await first.settled()
    assert len(receiver.arrivals) == 10


@pytest.mark.fault("a lease that ran out under its holder", "G2 G3")
async def test_who_lost_the_lease_writes_nothing(world: World) -> None:
    """The epoch on each feed refuses the one before, and its requests stop."""
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        async with world.publisher().term() as first:
            await first.sweep()
            await asyncio.to_thread(flip, site)
            await first.sweep()
            await receiver.received(1)
            await first.settled()
            with world.ledger.database.connection() as connection:
                connection.execute("UPDATE publishers SET expires_at = clock_timestamp()")
            async with world.publisher().term() as second:
                await second.sweep()
                await receiver.received(2)
                await second.settled()
                await second.checkpoint()
                await asyncio.to_thread(flip, site)
                await second.sweep()
                await receiver.received(3)
                await first.checkpoint()
                assert first.fenced == 1
                with pytest.raises(LeaseLost):
                    await _sweep_later(first)
    assert [a.version for a in receiver.arrivals] == [2, 2, 3]


@pytest.mark.fault("a lease too short for an attempt", "G2")
async def test_no_request_is_begun_that_could_outlive_the_lease(world: World) -> None:
    """An attempt of ten seconds under a lease of one waits for ever."""
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        flip(site)
        async with world.publisher(lease=1.0, timeout=10.0).term() as term:
            await term.sweep()
            while not term.asks:  # noqa: ASYNC110 — it is being read
                await asyncio.sleep(0)
            assert not receiver.arrivals


@pytest.mark.fault("SIGSTOP longer than the lease, then SIGCONT", "G1 G2 G3 G7")
async def test_a_stopped_process_loses_its_feeds_and_comes_back_harmless(world: World) -> None:
    """SIGSTOP longer than the lease: another takes over; SIGCONT: nothing is put back."""
    async with Receiver() as receiver:
        sites = [world.site() for _ in range(3)]
        world.subscribe(receiver)
        async with publishing_process(world, lease=2.0) as first:
            await asyncio.to_thread(flip, sites[0])
            await receiver.received(1)
            os.kill(first.pid, signal.SIGSTOP)
            async with running(world.publisher(poll_interval=0.02)):
                for site in sites:
                    await asyncio.to_thread(flip, site, 3)
                await receiver.until(lambda it: len(_known(it.acknowledged)) == 10)
                os.kill(first.pid, signal.SIGCONT)
                for site in sites:
                    await asyncio.to_thread(flip, site, 3)
                await receiver.until(lambda it: len(_known(it.acknowledged)) == 19)
    examine(receiver, recorded(world))


async def test_a_second_publisher_goes_on_where_the_first_stopped(world: World) -> None:
    """Stopping hands over at once; nothing arrives twice."""
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        async with running(world.publisher(poll_interval=0.02)) as stop_first:
            flip(site)
            await receiver.received(1)
            async with running(world.publisher(poll_interval=0.02)):
                flip(site)
                await receiver.received(2)
                stop_first.set()
                flip(site)
                await receiver.received(3)
    assert [a.version for a in receiver.arrivals] == [2, 3, 4]


@pytest.mark.fault("pg_terminate_backend of every connection, again and again", "G1 G2 G3 G7")
async def test_nothing_is_lost_while_every_connection_is_terminated_again_and_again(
    world: World, database: Any
) -> None:
    """The lease goes with its connection; the next term begins from what was written."""
    async with Receiver() as receiver:
        sites = [world.site() for _ in range(4)]
        world.subscribe(receiver)
        async with running(world.publisher(poll_interval=0.02)):
            for _ in range(10):
                for site in sites:
                    await asyncio.to_thread(_flip_again, site)
                _terminate_publishers(database)
            await receiver.until(lambda it: len(_known(it.acknowledged)) == 40)
    examine(receiver, recorded(world))


@pytest.mark.fault("NOTIFY lost", "G1 G2 G3 G7")
async def test_a_lost_doorbell_delays_an_event_and_loses_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nobody to ring, polling finds the event."""

    def deaf(_: Listener, timeout: float) -> bool:
        threading.Event().wait(timeout)
        return False

    monkeypatch.setattr(Listener, "wait", deaf)
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        async with running(world.publisher(poll_interval=0.05)):
            await asyncio.to_thread(flip, site, 3)
            await receiver.until(lambda it: len(it.acknowledged) == 3)
    examine(receiver, recorded(world))


async def test_the_doorbell_wakes_the_publisher(world: World) -> None:
    """An event arrives long before the publisher would look by itself."""
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        async with running(world.publisher(poll_interval=3600.0)):
            await asyncio.to_thread(flip, site)
            await receiver.received(1)
            await asyncio.to_thread(flip, site)
            await receiver.received(2)


async def test_a_thread_publishes_and_stops_though_a_receiver_hangs(world: World) -> None:
    """It waits neither for the answer nor for the attempt's timeout."""
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        receiver.answer = lambda a: _never() if a.version == 3 else 200
        thread = PublisherThread(world.publisher(timeout=600.0, lease=6000.0))
        thread.start()
        await asyncio.to_thread(flip, site, 2)
        await receiver.received(2)
        await asyncio.to_thread(thread.stop, PATIENCE)
        assert not thread.running
        receiver.answer = lambda _: 200
        await world.publish()
    assert [a.version for a in receiver.arrivals] == [2, 3, 3]


async def test_a_broken_feed_begins_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody thought of ends the term, not the publishing."""
    from ledger.publisher.feed import Feed

    accept, failures = Feed._accept, iter([RuntimeError("unthought of")])

    def fail_once(self: Feed, reading: Any) -> None:
        for failure in failures:
            raise failure
        accept(self, reading)

    monkeypatch.setattr(Feed, "_accept", fail_once)
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        async with running(world.publisher(poll_interval=0.02)):
            await asyncio.to_thread(flip, site)
            await receiver.received(1)


async def _sweep_later(term: Term) -> None:
    """Sweep until the lease is due to be renewed."""
    async with asyncio.timeout(PATIENCE):
        while True:
            await term.sweep()


async def _never() -> int:
    await asyncio.Event().wait()
    return 200


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until ``condition``, which only the database can tell, holds."""
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 — nothing here to await
            await asyncio.sleep(0)


def _flip_again(site: Any) -> None:
    """Flip, with patience for a connection that was terminated under the reading of settings."""
    while True:
        try:
            return flip(site)
        except DatabaseUnavailable:
            continue


def _known(arrivals: list[Arrival]) -> set[tuple[str, int]]:
    return {(arrival.entity, arrival.version) for arrival in arrivals}


def _listeners(world: World) -> int:
    return len(
        world.rows(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'settings-ledger listener'"
        )
    )


def _terminate_publishers(database: Any) -> None:
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND application_name IN ('settings-ledger publisher', 'settings-ledger listener', "
            "'settings-ledger pool')"
        )


async def test_an_absent_database_is_told_of_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is tried again: one line when it goes, one when it is back."""
    stop, attempts, back = asyncio.Event(), 0, Lease.open

    def absent(*arguments: Any) -> Lease:
        nonlocal attempts
        attempts += 1
        if attempts < 6:
            raise DatabaseUnavailable("The database does not answer.")
        return back(*arguments)

    monkeypatch.setattr(Lease, "open", absent)
    monkeypatch.setattr(Term, "checkpoint", _stopping(stop))
    publisher = Publisher(world.ledger.database, world.ledger.directory, poll_interval=0.01)
    with structlog.testing.capture_logs() as logs:
        await asyncio.wait_for(publisher.run(stop), PATIENCE)
    told = [entry["event"] for entry in logs]
    assert told == ["publisher waits", "publisher begins", "publisher goes on"]


def _stopping(stop: asyncio.Event) -> Callable[[Term], Any]:
    async def checkpoint(_term: Term) -> None:
        stop.set()

    return checkpoint
