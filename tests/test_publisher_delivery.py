"""What arrives at receivers: content, repetition, order, isolation and ends."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from publishing import SCOPES, World, flip, site_of
from receivers import Arrival, Receiver, hang

from ledger.assembly import Ledger
from ledger.database import Database
from ledger.identity import Identity
from ledger.migrate import migrate
from ledger.publisher import feed as feed_module


@pytest.fixture
def world(database: Any) -> Iterator[World]:
    with Ledger.open(database_url=database.server_url) as ledger:
        yield World.on(ledger)


async def test_a_change_arrives_as_the_wire_contract_says(world: World) -> None:
    """One POST: a signed token as text with a length, and texts of JSON inside."""
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        flip(site)
        await world.publish()
        (arrival,) = receiver.arrivals
    assert arrival.headers["Content-Type"] == "text/plain"
    assert int(arrival.headers["Content-Length"]) == len(arrival.body)
    assert "Transfer-Encoding" not in arrival.headers
    assert jwt.get_unverified_header(arrival.body) == {"kid": world.app.kid, "alg": "RS256"}
    claims = jwt.decode(arrival.body, world.app.public_key_pem, algorithms=["RS256"])
    assert claims.keys() == {"data", "iat", "exp"}
    outer = json.loads(claims["data"])
    installation = world.ledger.directory.installations()[0]
    assert outer["instanceId"] == str(installation.instance_id)
    assert outer["accountInfo"] == {"siteId": str(site.site_id)}
    operator = world.ledger.directory.operator()
    assert json.loads(outer["identity"]) == {"identityType": "WIX_USER", "wixUserId": operator.id}
    event = json.loads(outer["data"])
    assert event["updatedEvent"]["modifiedFields"] == {"createInvoice": False}
    assert event["updatedEvent"]["currentEntity"]["createInvoice"] is True
    assert event["entityEventSequence"] == "2"


async def test_a_token_that_was_tampered_with_does_not_verify(world: World) -> None:
    """The signature covers the claims."""
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        flip(site)
        await world.publish()
    header, claims, signature = receiver.arrivals[0].body.split(".")
    changed = claims[:-2] + ("A" if claims[-2] != "A" else "B") + claims[-1]
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(
            f"{header}.{changed}.{signature}", world.app.public_key_pem, algorithms=["RS256"]
        )


async def test_creation_and_what_was_before_are_not_delivered(world: World) -> None:
    """A subscription begins with the next change; SettingsCreated is no webhook."""
    async with Receiver() as receiver:
        site = world.site()
        flip(site)
        world.subscribe(receiver)
        world.site()
        flip(site)
        await world.publish()
    assert [arrival.version for arrival in receiver.arrivals] == [3]


async def test_an_event_answered_500_comes_again_and_after_200_no_more(world: World) -> None:
    """The second attempt has the same id and data; a new term sends nothing again."""
    answers = iter([500, 200])
    async with Receiver(lambda _: next(answers)) as receiver:
        site = world.site()
        world.subscribe(receiver)
        flip(site)
        async with world.term() as term:
            await term.sweep()
            await receiver.received(2)
            await term.settled()
        first, second = receiver.arrivals
        assert (first.id, first.data) == (second.id, second.data)
        await world.publish()
        assert len(receiver.arrivals) == 2
    assert world.rows("SELECT * FROM delivery_lanes") == []


@pytest.mark.parametrize("status", [201, 204, 302, 404, 503])
async def test_only_200_means_received(world: World, status: int) -> None:
    """Any other answer is a failure that names its status."""
    async with Receiver(lambda _: status) as receiver:
        site = world.site()
        world.subscribe(receiver)
        flip(site)
        await world.publish(schedule=(3600.0,))
    (lane,) = world.rows("SELECT * FROM delivery_lanes")
    assert str(status) in lane["last_error"]
    assert lane["failures"] == 1


async def test_a_retry_waits_for_its_time_across_restarts(world: World) -> None:
    """The time of the next attempt is kept in the database."""
    async with Receiver(lambda _: 500) as receiver:
        site = world.site()
        world.subscribe(receiver)
        flip(site)
        await world.publish(schedule=(3600.0,))
        await world.publish(schedule=(3600.0,))
        assert len(receiver.arrivals) == 1
        with world.ledger.database.connection() as connection:
            connection.execute("UPDATE delivery_lanes SET next_attempt_at = clock_timestamp()")
        receiver.answer = lambda _: 200
        async with world.term(schedule=(3600.0,)) as term:
            await term.sweep()
            await receiver.received(2)
            await term.settled()
    assert world.rows("SELECT * FROM delivery_lanes") == []


async def test_after_the_last_retry_an_event_is_a_dead_letter_and_the_next_goes_on(
    world: World,
) -> None:
    """One bad event does not stop its site for ever."""
    async with Receiver(lambda arrival: 500 if arrival.version == 2 else 200) as receiver:
        site = world.site()
        world.subscribe(receiver)
        flip(site, 3)
        async with world.term(schedule=(0.0, 0.0)) as term:
            await term.sweep()
            await receiver.until(lambda it: len(it.acknowledged) == 2)
            await term.settled()
    assert [arrival.version for arrival in receiver.arrivals] == [2, 2, 2, 3, 4]
    (dead,) = world.rows("SELECT version, attempts, last_error FROM dead_letters")
    assert dead == {"version": 2, "attempts": 3, "last_error": "answered 500 instead of 200"}


@pytest.mark.parametrize("seed", range(5))
async def test_a_sites_versions_arrive_in_order_whatever_fails(world: World, seed: int) -> None:
    """Version n+1 is first sent after n was acknowledged; every version arrives."""
    dice = random.Random(seed)

    async def answer(_: Arrival) -> int:
        for _ in range(dice.randrange(3)):
            await asyncio.sleep(0)
        return dice.choice([200, 200, 500, 404])

    async with Receiver(answer) as receiver:
        sites = [world.site() for _ in range(6)]
        world.subscribe(receiver)
        async with world.term() as term:
            for count in range(1, 7):
                flip(dice.choice(sites), count)
                await term.sweep()
            await receiver.until(
                lambda it: len({(a.entity, a.version) for a in it.acknowledged}) == 21
            )
            await term.settled()
    acknowledged: dict[str, int] = {}
    trail = [("sent", a) for a in receiver.arrivals]
    assert trail
    for arrival in receiver.acknowledged:
        expected = acknowledged.get(arrival.entity, 1) + 1
        assert arrival.version == expected
        acknowledged[arrival.entity] = arrival.version


async def test_a_next_version_is_never_sent_before_the_one_before_was_received(
    world: World,
) -> None:
    """While version 2 fails, nothing later of its site leaves."""
    async with Receiver(lambda _: 500) as receiver:
        site = world.site()
        world.subscribe(receiver)
        flip(site, 5)
        async with world.term() as term:
            await term.sweep()
            await receiver.received(20)
    assert {arrival.version for arrival in receiver.arrivals} == {2}


async def test_a_failing_site_holds_up_no_other(world: World) -> None:
    """Sites that only ever fail leave the others' versions their way, and the cursor its own."""
    async with Receiver() as receiver:
        bad, good = [world.site() for _ in range(3)], [world.site() for _ in range(3)]
        world.subscribe(receiver)
        bad_ids = {str(site.site_id) for site in bad}
        receiver.answer = lambda a: 500 if site_of(a) in bad_ids else 200
        for site in (*bad, *good):
            flip(site, 4)
        await world.publish(schedule=(3600.0,))
    assert len(receiver.acknowledged) == 12
    assert len(receiver.arrivals) == 15
    lanes = world.rows("SELECT version FROM delivery_lanes")
    assert [lane["version"] for lane in lanes] == [2, 2, 2]
    (cursor,) = world.rows("SELECT position FROM delivery_cursors")
    assert cursor["position"] == world.rows("SELECT max(position) AS head FROM events")[0]["head"]


async def test_a_site_that_hangs_holds_up_no_other_however_much_it_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More changes than the window holds, all of one hanging site, do not fill it."""
    monkeypatch.setattr(feed_module, "WINDOW", 32)
    monkeypatch.setattr(feed_module, "BATCH", 8)
    monkeypatch.setattr(feed_module, "QUEUE", 4)
    async with Receiver() as receiver:
        stuck, free = world.site(), world.site()
        world.subscribe(receiver)
        released = asyncio.Event()

        async def answer(arrival: Arrival) -> int:
            if site_of(arrival) == str(stuck.site_id):
                await released.wait()
            return 200

        receiver.answer = answer
        flip(stuck, 60)
        flip(free, 5)
        async with world.term(timeout=60.0) as term:
            await term.sweep()
            await receiver.until(lambda it: len(it.acknowledged) == 5)
            released.set()
            await receiver.until(lambda it: len(it.acknowledged) == 65)
            await term.settled()
    versions = [a.version for a in receiver.arrivals if site_of(a) == str(stuck.site_id)]
    assert versions == list(range(2, 62))
    assert world.rows("SELECT * FROM delivery_lanes") == []


async def test_a_hanging_receiver_holds_up_no_other_subscription(world: World) -> None:
    """A receiver that never answers, and one that answers, on the same sites."""
    async with Receiver(hang) as stuck, Receiver() as free:
        sites = [world.site() for _ in range(40)]
        world.subscribe(stuck)
        world.subscribe(free)
        for site in sites:
            flip(site, 2)
        async with world.term(timeout=60.0) as term:
            await term.sweep()
            await free.until(lambda it: len(it.acknowledged) == 80)
    assert len(stuck.arrivals) == 32


async def test_an_attempt_that_takes_too_long_has_failed(world: World) -> None:
    """The timeout holds for the whole attempt."""
    async with Receiver(hang) as receiver:
        site = world.site()
        world.subscribe(receiver)
        flip(site)
        await world.publish(timeout=0.05, schedule=(3600.0,))
    (lane,) = world.rows("SELECT last_error FROM delivery_lanes")
    assert lane["last_error"] == "no whole answer within 0.05 s"


async def test_a_site_comes_back_from_its_lane(world: World) -> None:
    """Changes made while a site waited are read back from the log, then it is live again."""
    async with Receiver(lambda _: 500) as receiver:
        site = world.site()
        world.subscribe(receiver)
        flip(site)
        async with world.term() as term:
            await term.sweep()
            await receiver.received(3)
            flip(site, 80)
            await term.sweep()
            receiver.answer = lambda _: 200
            await receiver.until(lambda it: len(it.acknowledged) == 81)
            await term.settled()
            await term.checkpoint()
            assert world.rows("SELECT * FROM delivery_lanes") == []
            flip(site)
            await term.sweep()
            await receiver.until(lambda it: len(it.acknowledged) == 82)
    assert [a.version for a in receiver.acknowledged] == list(range(2, 84))


async def test_a_private_receiver_is_refused_unless_its_network_is_listed(world: World) -> None:
    """A refusal is a failed attempt that says why; the receiver hears nothing."""
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        flip(site)
        await world.publish(allowed_networks=(), schedule=(3600.0,))
        assert receiver.arrivals == []
        (lane,) = world.rows("SELECT last_error FROM delivery_lanes")
        assert lane["last_error"].startswith("refused: 127.0.0.1 is not a public address")


async def test_a_name_for_a_private_address_is_refused_too(world: World) -> None:
    """What counts is the address behind the name."""
    async with Receiver() as receiver:
        site = world.site()
        url = receiver.url.replace("127.0.0.1", "localhost")
        world.ledger.directory.subscribe(world.app.app_id, url)
        flip(site)
        await world.publish(allowed_networks=(), schedule=(3600.0,))
        assert receiver.arrivals == []
        (lane,) = world.rows("SELECT last_error FROM delivery_lanes")
        assert lane["last_error"].startswith("refused: ")


async def test_an_uninstalled_app_gets_what_was_changed_before_and_nothing_after(
    world: World,
) -> None:
    """The installation's positions decide, not the moment of sending."""
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        flip(site)
        world.ledger.directory.uninstall(world.ledger.directory.installations()[0].instance_id)
        flip(site)
        again = world.ledger.directory.install(world.app.app_id, site.site_id)
        flip(site)
        await world.publish()
    assert [arrival.version for arrival in receiver.arrivals] == [2, 4]
    assert json.loads(receiver.arrivals[1].data)["instanceId"] == str(again.instance_id)


async def test_a_deleted_subscription_gets_what_was_changed_before_and_no_retries(
    world: World,
) -> None:
    """What was appended before is tried once; lanes end."""
    async with Receiver() as receiver:
        site = world.site()
        subscription_id = world.subscribe(receiver)
        flip(site)
        world.ledger.directory.delete_subscription(subscription_id)
        flip(site)
        await world.publish()
        assert [arrival.version for arrival in receiver.arrivals] == [2]
        await world.publish()
        assert len(receiver.arrivals) == 1


async def test_deleting_a_subscription_ends_its_retries(world: World) -> None:
    """The lane is gone from the database, and nothing is sent any more."""
    async with Receiver(lambda _: 500) as receiver:
        site = world.site()
        subscription_id = world.subscribe(receiver)
        flip(site)
        async with world.term(schedule=(3600.0,)) as term:
            await term.sweep()
            await receiver.received(1)
            await term.settled()
            await term.checkpoint()
            assert len(world.rows("SELECT * FROM delivery_lanes")) == 1
            world.ledger.directory.delete_subscription(subscription_id)
            flip(site)
            await term.sweep()
            await term.settled()
        assert len(receiver.arrivals) == 1
    assert world.rows("SELECT * FROM delivery_lanes") == []


async def test_an_app_that_is_not_installed_hears_nothing(world: World) -> None:
    """A subscription alone does not open a site."""
    async with Receiver() as receiver:
        other = world.ledger.directory.create_app("Other", SCOPES)
        site = world.site(other.app_id)
        world.subscribe(receiver)
        flip(site)
        await world.publish()
    assert receiver.arrivals == []


async def test_a_subscription_made_while_publishing_is_active_at_once(world: World) -> None:
    """The next sweep finds it."""
    async with Receiver() as receiver:
        site = world.site()
        async with world.term() as term:
            await term.sweep()
            world.subscribe(receiver)
            flip(site)
            await term.sweep()
            await receiver.received(1)


async def test_a_partition_added_later_is_followed_from_its_beginning(
    world: World, database: Any
) -> None:
    """A subscription has no span there, and misses nothing."""
    async with Receiver() as receiver:
        old = world.site()
        world.subscribe(receiver)
        async with world.term() as term:
            await term.sweep()
            migrate(database.owner_url, serving_role="ledger_server", partitions=2)
            sites = [old, *(world.site() for _ in range(8))]
            assert {site.record().partition for site in sites} == {0, 1}
            for site in sites:
                flip(site)
            await term.sweep()
            await receiver.until(lambda it: len(it.acknowledged) == 9)


async def test_an_unknown_topic_stops_its_partition_and_no_other(world: World) -> None:
    """What was appended before it is delivered; the rest waits for a newer program."""
    with Database(world.ledger.database.url) as database, database.connection() as connection:
        partitions = [row["partition"] for row in connection.execute("SELECT * FROM partitions")]
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        flip(site)
        with world.ledger.database.connection() as connection:
            connection.execute(
                "INSERT INTO events SELECT partition, position + 1, gen_random_uuid(), 1, "
                "'ledger:Unheard', state, leaf_hash FROM events ORDER BY position DESC LIMIT 1"
            )
        flip(site)
        async with world.term() as term:
            await term.sweep()
            await receiver.received(1)
            await term.settled()
            assert [partition for _, partition in term.stopped] == partitions
    assert [arrival.version for arrival in receiver.arrivals] == [2]
    (cursor,) = world.rows("SELECT position FROM delivery_cursors")
    assert cursor["position"] == 2


async def test_an_erased_actor_is_named_by_reference(world: World) -> None:
    """The identity keeps its type; the id is the event's reference."""
    async with Receiver() as receiver:
        site = world.site()
        world.subscribe(receiver)
        site.update({"createInvoice": True}, by=Identity.app(world.app.app_id))
        (row,) = world.rows("SELECT ref FROM actors WHERE type = 'APP'")
        with world.ledger.database.connection() as connection:
            connection.execute("DELETE FROM actors WHERE type = 'APP'")
        await world.publish()
    identity = json.loads(json.loads(receiver.arrivals[0].data)["identity"])
    assert identity == {"identityType": "APP", "appId": str(row["ref"])}
