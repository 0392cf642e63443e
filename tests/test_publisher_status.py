"""What operators see: the journal of attempts, the status, the metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from publishing import World, flip
from receivers import Receiver

from ledger.assembly import Ledger
from ledger.errors import NotFound
from ledger.publisher import DeliveryOperator
from ledger.publisher.journal import Attempt, copy_attempts, forget_old_attempts, list_attempts
from ledger.publisher.metrics import exposition
from ledger.publisher.status import publisher_status
from ledger.web import create_app


@pytest.fixture
def world(fresh_database: Callable[[], Any]) -> Iterator[World]:
    with Ledger.open(database_url=fresh_database().server_url) as ledger:
        yield World.on(ledger)


async def test_every_attempt_is_in_the_journal(world: World) -> None:
    """By site and by subscription: status, latency, error; replays are marked."""
    answers = iter([503, 200, 200])
    async with Receiver(lambda _: next(answers)) as receiver:
        site = world.site()
        subscription_id = world.subscribe(receiver)
        flip(site)
        async with world.term() as term:
            await term.sweep()
            await receiver.until(lambda it: len(it.acknowledged) == 1)
            await term.settled()
        DeliveryOperator(world.ledger.database).replay(subscription_id)
        await world.publish()
    database = world.ledger.database
    attempts = list_attempts(database, site.site_id, 10)
    assert attempts == list_attempts(database, subscription_id, 10)
    assert [(a.status, a.replay) for a in attempts] == [(200, True), (200, False), (503, False)]
    assert attempts[2].error == "answered 503 instead of 200"
    assert {a.version for a in attempts} == {2}
    assert all(0 < a.milliseconds < 60_000 for a in attempts)
    assert list_attempts(database, subscription_id, 1) == attempts[:1]
    with pytest.raises(NotFound):
        list_attempts(database, uuid4(), 10)


def test_days_that_are_over_are_emptied_by_a_role_that_owns_nothing(world: World) -> None:
    """The last days stay, tomorrow's too; the function refuses to empty all."""
    now, feed = datetime.now(UTC), uuid4()
    ages = [-1, 0, 1, 13, 14, 20, 29]
    with world.ledger.database.connection() as connection:
        copy_attempts(
            connection,
            [Attempt(now - timedelta(days=age), feed, 0, age + 1, 1.0, 200, None) for age in ages],
        )
        assert forget_old_attempts(connection, 14) == 3
    kept = world.rows(
        "SELECT unnest(positions) AS position FROM delivery_attempts ORDER BY position"
    )
    assert [row["position"] - 1 for row in kept] == [-1, 0, 1, 13]
    with pytest.raises(Exception, match="kept_days"), world.ledger.database.connection() as one:
        forget_old_attempts(one, 0)


async def test_the_status_tells_lag_lanes_pauses_and_owners(world: World) -> None:
    """What nobody has taken up has no owner; what is done with has no lag."""
    async with Receiver() as receiver:
        site = world.site()
        subscription_id = world.subscribe(receiver)
        flip(site, 3)
        (feed,) = publisher_status(world.ledger.database).feeds
        assert (feed.lag, feed.owner, feed.lanes) == (3, None, 0)
        assert feed.seconds > 0
        receiver.answer = lambda _: 500
        async with world.term(schedule=(3600.0,)) as term:
            await term.sweep()
            await receiver.received(1)
            await term.settled()
            await term.checkpoint()
            status = publisher_status(world.ledger.database)
            assert (status.feeds[0].lag, status.feeds[0].lanes) == (0, 1)
            assert status.feeds[0].owner == status.publishers[0].place
            assert status.publishers[0].feeds == 1
    DeliveryOperator(world.ledger.database).pause(subscription_id, "Moving house")
    status = publisher_status(world.ledger.database)
    assert (status.feeds[0].paused, status.publishers) == ("Moving house", [])


async def test_metrics_count_attempts_and_show_the_feeds(world: World) -> None:
    """Valid exposition with lag, lanes, breakers, leases, attempts and latency."""
    async with Receiver() as receiver:
        site = world.site()
        subscription_id = world.subscribe(receiver)
        flip(site, 2)
        await world.publish()
        text = exposition(world.ledger.database).decode()
    label = f'{{partition="0",replay="",subscription="{subscription_id}"}}'
    assert f"ledger_delivery_lag_events{label} 0.0" in text
    for name in (
        'ledger_delivery_attempts_total{outcome="received"}',
        "ledger_delivery_seconds_bucket",
        "ledger_delivery_fenced_writes_total",
        "ledger_delivery_breaker_open",
        "ledger_delivery_lanes",
        "ledger_publisher_feeds",
    ):
        assert name in text


async def test_metrics_are_served_to_whoever_has_the_token(world: World) -> None:
    """No token configured: no route. Another token, or none: 401."""
    url = world.ledger.database_url
    data_dir = world.ledger.config.data_dir
    with Ledger.open(database_url=url, data_dir=data_dir, metrics_token="let me in") as ledger:
        transport = httpx.ASGITransport(create_app(ledger))
        async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as http:
            assert (await http.get("/metrics")).status_code == 401
            wrong = await http.get("/metrics", headers={"Authorization": "Bearer let me"})
            assert wrong.status_code == 401
            right = await http.get("/metrics", headers={"Authorization": "Bearer let me in"})
    assert right.status_code == 200
    assert "ledger_delivery_seconds_bucket" in right.text
    transport = httpx.ASGITransport(create_app(world.ledger))
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as http:
        assert (await http.get("/metrics")).status_code == 404
