"""What the publisher's log says, and what it never says; and how processes share a limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from publishing import World, flip
from receivers import Receiver
from structlog.testing import capture_logs

from ledger.assembly import Ledger
from ledger.migrate import migrate
from ledger.publisher import Choices, DeliveryOperator
from ledger.publisher.journal import list_attempts
from ledger.publisher.term import Term


@pytest.fixture
def world(database: Any) -> Iterator[World]:
    with Ledger.open(database_url=database.server_url) as ledger:
        yield World.on(ledger)


def batches(lines: list[Any], subscription_id: UUID) -> list[Any]:
    """The batch lines of one subscription."""
    return [
        line
        for line in lines
        if line["event"] == "publisher batch" and line["subscription"] == str(subscription_id)
    ]


async def test_a_batch_is_one_line_whatever_came_of_its_attempts(world: World) -> None:
    """Counts by outcome, how long, and from which position to which; a line a subscription."""
    async with Receiver() as good, Receiver(lambda _: 500) as bad:
        fine, refused = world.subscribe(good), world.subscribe(bad)
        absent = world.ledger.directory.subscribe(world.app.app_id, "http://127.0.0.1:1/x")
        sites = [world.site() for _ in range(2)]
        for site in sites:
            flip(site)
        with capture_logs() as lines:
            await world.publish(schedule=(0.0,))
    [line] = batches(lines, fine)
    seconds, first, last = (line.pop(n) for n in ("seconds", "from_position", "to_position"))
    assert seconds >= 0
    assert 0 < first < last
    assert line == {
        "event": "publisher batch",
        "log_level": "info",
        "subscription": str(fine),
        "partition": 0,
        "received": 2,
        "refused": 0,
        "failed": 0,
    }
    [line] = batches(lines, refused)
    assert (line["received"], line["refused"], line["failed"], line["dead"]) == (0, 4, 0, 2)
    assert (line["log_level"], line["problem"]) == ("warning", "answered 500 instead of 200")
    [line] = batches(lines, absent.subscription_id)
    assert (line["received"], line["refused"], line["failed"]) == (0, 0, 4)
    assert line["problem"] == "cannot be reached: Connection refused"


async def test_a_replay_and_a_pause_are_told_apart(world: World) -> None:
    """The replay's id stands beside its subscription; a receiver's 410 with what it means."""
    async with Receiver() as receiver:
        subscription_id = world.subscribe(receiver)
        flip(world.site())
        await world.publish()
        replay = DeliveryOperator(world.ledger.database).replay(subscription_id)
        with capture_logs() as lines:
            await world.publish()
        [line] = batches(lines, subscription_id)
        assert line["replay"] == str(replay.replay_id)
        receiver.answer = lambda _: 410
        flip(world.site())
        with capture_logs() as lines:
            await world.publish()
    [line] = batches(lines, subscription_id)
    assert "gone for good" in line["paused"]


async def test_no_line_holds_a_secret(world: World) -> None:
    """No URL with its query, no token, no signature, no settings; whatever goes wrong."""
    async with Receiver(lambda arrival: 200 if arrival.version % 2 else 302) as receiver:
        receiver.reply_headers = {"Location": "http://elsewhere.example/?secret-of-theirs"}
        for url in (
            f"{receiver.url}?token=secret-of-ours",
            "http://127.0.0.1:1/hook?token=secret-of-ours",
            "http://no-such-name.invalid/secret-of-ours",
            "nats://127.0.0.1:1/secret-of-ours",
        ):
            world.ledger.directory.subscribe(world.app.app_id, url)
        flip(world.site(), 3)
        with capture_logs() as lines:
            await world.publish(schedule=(0.0,))
        sent = receiver.arrivals
    said = repr(lines)
    assert len([line for line in lines if line["event"] == "publisher batch"]) == 4
    for secret in ("secret", "token", "http://", "nats://", "createInvoice", "webhook-", "eyJ"):
        assert secret not in said
    assert not any(arrival.body in said for arrival in sent)


async def test_the_counts_in_the_log_are_those_of_the_journal(world: World) -> None:
    """Every attempt is in exactly one line, however often progress was written."""
    async with Receiver(lambda arrival: 200 if arrival.version % 3 else 503) as receiver:
        subscription_id, sites = world.subscribe(receiver), [world.site() for _ in range(5)]
        with capture_logs() as lines:
            async with world.term(schedule=(0.0,)) as term:
                for _ in range(3):
                    for site in sites:
                        flip(site)
                    await term.sweep()
                    await term.settled()
                    await term.checkpoint()
    told = batches(lines, subscription_id)
    attempts = list_attempts(world.ledger.database, subscription_id, 1000)
    assert len(told) == 3
    assert sum(line["received"] for line in told) == sum(one.error is None for one in attempts)
    assert sum(line["refused"] for line in told) == sum(one.status == 503 for one in attempts)


def rate(term: Term) -> float | None:
    """What this term's process may send a second to its one subscription."""
    [slots] = term._slots.values()
    return slots.per_second


async def test_processes_share_a_limit_per_second(world: World, database: Any) -> None:
    """Whoever has feeds of the subscription has an equal part, and all of it when alone again."""
    migrate(database.owner_url, serving_role="ledger_server", partitions=2)
    async with Receiver() as receiver:
        subscription_id = world.subscribe(receiver)
        DeliveryOperator(world.ledger.database).set_policy(
            subscription_id, Choices(per_second=20.0)
        )
        async with world.term() as one:
            await one.sweep()
            assert (len(one.feeds), rate(one)) == (2, 20.0)
            async with world.term() as two:
                await one.sweep()
                await two.sweep()
                assert (len(two.feeds), rate(two)) == (1, 10.0)
                await one.sweep()
                assert (len(one.feeds), rate(one)) == (1, 10.0)
            await one.sweep()
            await one.sweep()
            assert (len(one.feeds), rate(one)) == (2, 20.0)
