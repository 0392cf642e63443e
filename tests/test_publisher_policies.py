"""Policies, pauses, replays and dead letters, against receivers that remember what they got."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from faults.clock import stopped_clock, until
from faults.delivery import examine, recorded
from publishing import World, flip, site_of
from receivers import Receiver

from ledger.assembly import Ledger
from ledger.errors import InvalidInput, NotFound
from ledger.publisher import Choices, DeliveryOperator
from ledger.publisher.policy import ORDERED_DELAYS, WIX_DELAYS, Policies, Policy


@pytest.fixture
def world(fresh_database: Callable[[], Any]) -> Iterator[World]:
    with Ledger.open(database_url=fresh_database().server_url) as ledger:
        yield World.on(ledger)


@pytest.fixture
def operator(world: World) -> DeliveryOperator:
    return DeliveryOperator(world.ledger.database)


def test_wix_waits_as_wix_does() -> None:
    """1,250 ms, twelve retries in 47 h 11 min, later events go on; others differ."""
    wix, ordered = Policies().of(Choices("wix")), Policies().of(Choices())
    assert (wix.timeout, len(wix.delays), wix.holds_back) == (1.25, 12, False)
    assert wix.delays == WIX_DELAYS
    assert (ordered.timeout, ordered.delays, ordered.holds_back) == (10.0, ORDERED_DELAYS, True)
    assert Policies().of(Choices("latest")).collapses


def test_what_was_chosen_wins_over_defaults() -> None:
    """Delays, timeout, requests in flight and attempts per second."""
    policy = Policies(schedule=(7.0,), timeout=7.0).of(Choices("ordered", [1.0], 2.0, 3, 4.0))
    assert (policy.delays, policy.timeout, policy.in_flight) == ((1.0,), 2.0, 3)
    assert (policy.per_second, policy.retries_in_flight) == (4.0, 3)
    assert Policies(schedule=(7.0,)).of(Choices("wix")).delays == (7.0,)


@pytest.mark.parametrize(
    ("asked", "dice", "expected"),
    [
        (None, 0.0, 60.0),
        (None, 1.0, 66.0),
        (10.0, 0.0, 60.0),
        (600.0, 0.0, 600.0),
        (600.0, 0.5, 630.0),
        (1e9, 0.0, 3600.0),
    ],
)
def test_retry_after_makes_a_wait_longer_within_bounds(
    asked: float | None, dice: float, expected: float
) -> None:
    """Never shorter than the schedule, never over an hour; jitter only adds."""
    policy = Policy(delays=(60.0,))
    assert policy.delay_after(1, asked, lambda: dice) == expected


@pytest.mark.fault("429 with Retry-After in seconds, as a date, absurd", "G1 G2 G3 G7")
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("1800", 1800),
        ("Fri, 01 Jan 2038 00:30:00 GMT", 1800),
        ("soon", 5),
        ("-3", 5),
        ("9" * 40, 3600),
    ],
)
async def test_a_receiver_may_ask_for_patience(
    world: World, monkeypatch: pytest.MonkeyPatch, header: str, seconds: int
) -> None:
    """Retry-After as seconds and as a date; nonsense counts for nothing. Then it gets the event."""
    async with Receiver(lambda _: 429) as receiver:
        date = "Fri, 01 Jan 2038 00:00:00 GMT"
        receiver.reply_headers = {"Retry-After": header, "Date": date, "Connection": "close"}
        site = world.site()
        world.subscribe(receiver)
        flip(site)
        with stopped_clock(monkeypatch) as clock:
            async with world.term(schedule=(5.0,), lease=600.0) as term:
                await term.sweep()
                await until(lambda: receiver.arrivals and term.quiet)
                receiver.answer = lambda _: 200
                clock.advance(seconds - 0.001)
                assert term.quiet
                clock.advance(seconds * 0.1 + 0.002)
                assert not term.quiet
                await until(lambda: receiver.acknowledged and term.quiet)
    examine(receiver, recorded(world))


async def test_under_wix_a_failed_event_holds_up_nothing(
    world: World, operator: DeliveryOperator
) -> None:
    """The site's later versions arrive; the failed one is retried by itself, across restarts."""
    async with Receiver(lambda a: 500 if a.version in (2, 4) else 200) as receiver:
        site = world.site()
        operator.set_policy(world.subscribe(receiver), Choices("wix"))
        flip(site, 4)
        await world.publish(schedule=(3600.0, 3600.0))
        assert [a.version for a in receiver.arrivals] == [2, 3, 4, 5]
        lanes = world.rows("SELECT alone, version FROM delivery_lanes ORDER BY alone")
        assert [(lane["alone"], lane["version"]) for lane in lanes] == [(2, 2), (4, 4)]
        assert world.rows("SELECT position FROM delivery_cursors")[0]["position"] == 5
        with world.ledger.database.connection() as connection:
            connection.execute("UPDATE delivery_lanes SET next_attempt_at = clock_timestamp()")
        receiver.answer = lambda a: 200 if a.version == 2 else 500
        async with world.term(schedule=(3600.0,)) as term:
            await term.sweep()
            await receiver.until(lambda it: len(it.arrivals) == 6)
            await term.settled()
    assert sorted(a.version for a in receiver.arrivals[4:]) == [2, 4]
    assert world.rows("SELECT * FROM delivery_lanes") == []
    assert [row["version"] for row in world.rows("SELECT version FROM dead_letters")] == [4]


async def test_under_latest_a_site_that_waits_skips_to_its_newest(
    world: World, operator: DeliveryOperator
) -> None:
    """The signed payload says how many versions the receiver does not get."""
    async with Receiver(lambda _: 500) as receiver:
        site = world.site()
        operator.set_policy(world.subscribe(receiver), Choices("latest"))
        flip(site, 9)
        async with world.term() as term:
            await term.sweep()
            await receiver.until(lambda it: it.arrivals and it.arrivals[-1].version == 10)
            receiver.answer = lambda _: 200
            await receiver.until(lambda it: len(it.acknowledged) == 1)
            await term.settled()
            flip(site)
            await term.sweep()
            await receiver.until(lambda it: len(it.acknowledged) == 2)
    newest, next_one = receiver.acknowledged
    assert (newest.version, newest.skipped) == (10, 8)
    assert (next_one.version, next_one.skipped) == (11, 0)
    assert {a.version for a in receiver.arrivals} == {2, 10, 11}


@pytest.mark.fault("410 Gone", "G1 G2 G3 G7")
async def test_a_receiver_that_is_gone_pauses_its_subscription(
    world: World, operator: DeliveryOperator
) -> None:
    """410: nothing more is sent, the reason is kept, and resuming loses nothing."""
    async with Receiver(lambda _: 410) as receiver:
        site = world.site()
        subscription_id = world.subscribe(receiver)
        flip(site, 3)
        await world.publish()
        await world.publish()
        assert len(receiver.arrivals) == 1
        paused = operator.delivery(subscription_id).paused
        assert paused == "the receiver answered 410 instead of 200: it is gone for good"
        receiver.answer = lambda _: 200
        operator.resume(subscription_id)
        await world.publish()
    examine(receiver, recorded(world))
    assert world.rows("SELECT * FROM delivery_lanes") == []


async def test_a_pause_takes_hold_while_publishing_and_resuming_goes_on_where_it_stood(
    world: World, operator: DeliveryOperator
) -> None:
    """What was acknowledged is not sent again; what was not is sent in order."""
    async with Receiver() as receiver:
        site = world.site()
        subscription_id = world.subscribe(receiver)
        async with world.term() as term:
            flip(site)
            await term.sweep()
            await receiver.until(lambda it: len(it.acknowledged) == 1)
            operator.pause(subscription_id, "maintenance")
            flip(site, 2)
            await term.sweep()
            await term.settled()
            assert len(receiver.arrivals) == 1
            operator.resume(subscription_id)
            await term.sweep()
            await receiver.until(lambda it: len(it.acknowledged) == 3)
    assert [a.version for a in receiver.arrivals] == [2, 3, 4]


async def test_resuming_from_now_skips_and_from_a_position_repeats(
    world: World, operator: DeliveryOperator
) -> None:
    """A publisher at work that still stands elsewhere does not put the cursor back."""
    async with Receiver() as receiver:
        site = world.site()
        subscription_id = world.subscribe(receiver)
        async with world.term() as term:
            flip(site, 2)
            await term.sweep()
            await receiver.until(lambda it: len(it.acknowledged) == 2)
            operator.pause(subscription_id, "maintenance")
            flip(site, 2)
            operator.resume(subscription_id, from_now=True)
            await term.checkpoint()
            flip(site)
            await term.sweep()
            await receiver.until(lambda it: len(it.acknowledged) == 3)
            assert [a.version for a in receiver.acknowledged] == [2, 3, 6]
            await term.settled()
            operator.pause(subscription_id, "maintenance")
            operator.resume(subscription_id, from_position=(0, 4))
            await term.sweep()
            await receiver.until(lambda it: len(it.acknowledged) == 6)
    assert [a.version for a in receiver.acknowledged] == [2, 3, 6, 4, 5, 6]


async def test_what_was_acknowledged_beyond_the_cursor_is_not_sent_again(world: World) -> None:
    """A site that hangs holds the cursor; a crash repeats only what hung."""
    async with Receiver() as receiver:
        stuck, *free = [world.site() for _ in range(5)]
        world.subscribe(receiver)
        stuck_id, released = str(stuck.site_id), asyncio.Event()

        async def answer(arrival: Any) -> int:
            if site_of(arrival) == stuck_id:
                await released.wait()
            return 200

        receiver.answer = answer
        flip(stuck, 2)
        for site in free:
            flip(site, 3)
        with pytest.raises(RuntimeError, match="crash"):  # noqa: PT012 — it crashes in there
            async with world.term(timeout=60.0) as term:
                await term.sweep()
                await receiver.until(lambda it: len(it.acknowledged) == 12)
                while not term.idle_but(1):  # noqa: ASYNC110 — answers are on their way
                    await asyncio.sleep(0)
                await term.checkpoint()
                raise RuntimeError("crash")
        (cursor,) = world.rows("SELECT position, beyond FROM delivery_cursors")
        assert cursor["beyond"]
        released.set()
        await world.publish()
    assert [site_of(a) for a in receiver.arrivals[13:]] == [stuck_id] * 2
    (cursor,) = world.rows("SELECT beyond FROM delivery_cursors")
    assert cursor["beyond"] == []


async def test_a_replay_runs_beside_live_traffic_and_says_so(
    world: World, operator: DeliveryOperator
) -> None:
    """Same ids and data, marked by a header; live deliveries bear none and are not repeated."""
    async with Receiver() as receiver:
        site, other = world.site(), world.site()
        subscription_id = world.subscribe(receiver)
        flip(site, 3)
        flip(other)
        await world.publish()
        replay = operator.replay(subscription_id, sites=[site.site_id])
        flip(site)
        await world.publish()
        await world.publish()
    first, later = receiver.arrivals[:4], receiver.arrivals[4:]
    again = [a for a in later if a.headers.get("X-Ledger-Replay") == str(replay.replay_id)]
    assert [a.version for a in again] == [2, 3, 4]
    assert {(a.id, a.data) for a in again} < {(a.id, a.data) for a in first}
    assert [a.version for a in later if a not in again] == [5]
    assert all(row["finished_at"] for row in world.rows("SELECT * FROM delivery_replays"))


async def test_a_replay_begins_at_a_position_or_a_time(
    world: World, operator: DeliveryOperator
) -> None:
    """By time it may begin a moment early, never late."""
    async with Receiver() as receiver:
        site = world.site()
        subscription_id = world.subscribe(receiver)
        flip(site, 4)
        await world.publish()
        operator.replay(subscription_id, from_position=(0, 4))
        await world.publish()
        assert [a.version for a in receiver.arrivals[4:]] == [4, 5]
        operator.replay(subscription_id, from_time=datetime.now(UTC) - timedelta(hours=1))
        await world.publish()
        assert [a.version for a in receiver.arrivals[6:]] == [2, 3, 4, 5]
        later = operator.replay(subscription_id, from_time=datetime.now(UTC) + timedelta(hours=1))
        assert later.events == 0
    with pytest.raises(InvalidInput):
        operator.replay(subscription_id, from_position=(0, 99))
    with pytest.raises(NotFound):
        operator.replay(uuid4())


async def test_a_dead_letter_is_retried_or_dropped(
    world: World, operator: DeliveryOperator
) -> None:
    """A retry has the whole schedule again; dropping forgets."""
    async with Receiver(lambda _: 500) as receiver:
        site = world.site()
        world.subscribe(receiver)
        flip(site, 2)
        async with world.term(schedule=(0.0,)) as term:
            await term.sweep()
            await receiver.received(4)
            await term.settled()
        one, other = operator.dead_letters()
        assert (one.version, one.attempts, one.site_id) == (2, 2, site.site_id)
        operator.drop_dead_letter(other.dead_letter_id)
        receiver.answer = lambda _: 200
        operator.retry_dead_letter(one.dead_letter_id)
        await world.publish()
    assert [a.version for a in receiver.acknowledged] == [2]
    assert receiver.acknowledged[0].headers["X-Ledger-Replay"]
    assert operator.dead_letters() == []
    with pytest.raises(NotFound):
        operator.drop_dead_letter(one.dead_letter_id)


async def test_attempts_per_second_are_limited(world: World, operator: DeliveryOperator) -> None:
    """Ten events at fifty a second take nine fiftieths of a second at least."""
    async with Receiver() as receiver:
        sites = [world.site() for _ in range(10)]
        operator.set_policy(world.subscribe(receiver), Choices(per_second=50.0))
        for site in sites:
            flip(site)
        began = asyncio.get_running_loop().time()
        await world.publish()
    assert len(receiver.acknowledged) == 10
    assert asyncio.get_running_loop().time() - began >= 9 / 50


@pytest.mark.parametrize(
    "choices",
    [
        Choices("sometimes"),
        Choices(timeout=0.0),
        Choices(timeout=15.5),
        Choices(in_flight=0),
        Choices(per_second=0.0),
        Choices(delays=[-1.0]),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(
    world: World, operator: DeliveryOperator, choices: Choices
) -> None:
    """The argument is named."""
    subscription = world.ledger.directory.subscribe(world.app.app_id, "https://example.com/")
    with pytest.raises(InvalidInput):
        operator.set_policy(subscription.subscription_id, choices)


def test_only_what_is_paused_can_be_resumed(world: World, operator: DeliveryOperator) -> None:
    """Resuming twice, or what never was, is told."""
    subscription = world.ledger.directory.subscribe(world.app.app_id, "https://example.com/")
    with pytest.raises(NotFound):
        operator.resume(subscription.subscription_id)
    with pytest.raises(NotFound):
        operator.pause(uuid4(), "no such")
