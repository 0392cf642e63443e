"""The current settings: changed with the log in one transaction, and never behind or before it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import psycopg.sql
import pytest
from psycopg.rows import dict_row

from ledger import Ledger, timestamps
from ledger.aggregate import SettingsRecord, originator_id
from ledger.batch import Offer
from ledger.canonical import canonical_bytes
from ledger.database import Connection, lock_partition
from ledger.errors import ChangeRefused
from ledger.eventlog import OfferedEvent, prepare_append
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.settings import SettingsModel

if TYPE_CHECKING:
    from conftest import TestDatabase, TestServer

Owner = psycopg.Connection[dict[str, Any]]


class GiftSettings(SettingsModel):
    gift_wrap: bool = False
    paper: str = "blue"


GIFTS = replace(
    ORDERS_SETTINGS,
    fqdn="test.v1.gift_settings",
    wrapper="giftSettings",
    path="/test/v1/gift-settings",
    model=GiftSettings,
    hidden_at_default=frozenset(),
)


@pytest.fixture(scope="module")
def place(postgres: TestServer, template: TestDatabase) -> Iterator[TestDatabase]:
    with postgres.lent("ledger_current", template.name) as database:
        yield database


@pytest.fixture(scope="module")
def ledger(place: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    directory = tmp_path_factory.mktemp("current")
    with Ledger.open(database_url=place.server_url, data_dir=directory) as ledger:
        yield ledger


@pytest.fixture
def owner(place: TestDatabase) -> Iterator[Owner]:
    with psycopg.connect(place.owner_url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


def row_of(owner: Owner, site_id: UUID) -> dict[str, Any] | None:
    return owner.execute(
        "SELECT * FROM current_settings WHERE site_id = %s AND kind = %s",
        (site_id, ORDERS_SETTINGS.fqdn),
    ).fetchone()


def newest_event(owner: Owner, site_id: UUID) -> dict[str, Any]:
    row = owner.execute(
        "SELECT * FROM events WHERE originator_id = %s ORDER BY originator_version DESC LIMIT 1",
        (originator_id(site_id, ORDERS_SETTINGS.fqdn),),
    ).fetchone()
    assert row is not None
    return row


def test_the_row_equals_the_newest_event(ledger: Ledger, owner: Owner) -> None:
    """After every change the row has the log's version, position, leaf, time and settings."""
    site = ledger.create_site()
    for patch in ({}, {"createInvoice": True}, {"emailNotifications": {"orderPlaced": False}}):
        record = site.update(patch)
        row, event = row_of(owner, site.site_id), newest_event(owner, site.site_id)
        facts = json.loads(bytes(event["state"]))
        assert row is not None
        assert row["version"] == event["originator_version"] == record.version
        assert row["position"] == event["position"] == record.position
        assert bytes(row["leaf_hash"]) == bytes(event["leaf_hash"]) == record.leaf_hash
        assert row["settings"] == facts["settings"] == record.settings
        assert row["updated_at"] == record.updated
        assert ledger.get(site.site_id) == record
    assert record.created < record.updated


def test_the_row_and_the_event_appear_in_one_transaction(ledger: Ledger, owner: Owner) -> None:
    """The row and the event were written by the same transaction, as the server itself tells."""
    site = ledger.create_site()
    site.update({"createInvoice": True})
    key = originator_id(site.site_id, ORDERS_SETTINGS.fqdn)
    row = owner.execute(
        """
        SELECT e.xmin = c.xmin AS together FROM events e JOIN current_settings c
        USING (originator_id) WHERE originator_id = %s AND originator_version = c.version
        """,
        (key,),
    ).fetchone()
    assert row == {"together": True}


def test_a_row_that_cannot_be_written_takes_its_event_back(ledger: Ledger, owner: Owner) -> None:
    """Where the projection fails the event is not recorded either, and other sites go on."""
    site, other = ledger.create_site(), ledger.create_site()
    owner.execute(
        """
        CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'spoilt'; END $$
        """
    )
    owner.execute(
        psycopg.sql.SQL(
            "CREATE TRIGGER spoiler BEFORE UPDATE ON current_settings FOR EACH ROW "
            "WHEN (old.site_id = {}) EXECUTE FUNCTION spoil()"
        ).format(str(site.site_id))
    )
    try:
        with pytest.raises(ChangeRefused, match="spoilt"):
            site.update({"createInvoice": True})
        assert newest_event(owner, site.site_id)["originator_version"] == 1
        assert site.record().version == 1
        assert other.update({"createInvoice": True}).version == 2
    finally:
        owner.execute("DROP FUNCTION spoil() CASCADE")
    assert site.update({"createInvoice": True}).version == 2
    assert ledger.verify().fault is None


def offered_for(record: SettingsRecord) -> OfferedEvent:
    """Some change that follows the record's."""
    facts = {
        "site_id": str(record.site_id),
        "kind": record.kind,
        "settings": record.settings,
        "timestamp": timestamps.stored(record.updated + timedelta(seconds=1)),
    }
    key = originator_id(record.site_id, record.kind)
    return OfferedEvent.following(
        record.leaf_hash, key, record.version + 1, "ledger:SettingsChanged", canonical_bytes(facts)
    )


def test_a_rollback_leaves_neither(ledger: Ledger, owner: Owner) -> None:
    """Event and row that were written in a transaction that failed are both gone."""
    site = ledger.create_site()
    before = site.record()
    event = offered_for(before)
    offer = Offer([event], {event.originator_id: before.leaf_hash})

    def write_and_fail(connection: Connection) -> None:
        with connection.transaction():
            appending = prepare_append(connection)
            appending.send(offer.parameters(before.partition))
            positions, _ = offer.landed(appending.answer())
            inside = ledger.current.select(connection, before.partition, [event.originator_id])
            (row,) = ledger.current.records_in(inside).values()
            assert (row.version, row.position) == (2, positions[event.originator_id, 2])
            raise RuntimeError

    with ledger.database.connect("test") as connection, pytest.raises(RuntimeError):
        write_and_fail(connection)
    assert site.record() == before
    assert newest_event(owner, site.site_id)["originator_version"] == 1


def test_a_row_never_goes_back(ledger: Ledger) -> None:
    """An earlier record that is applied again, late, changes nothing."""
    site = ledger.create_site()
    earlier = site.update({"createInvoice": True})
    latest = site.update({"createInvoice": False})
    with ledger.database.connection() as connection:
        lock_partition(connection, earlier.partition)
        ledger.current.apply(connection, earlier.partition, [earlier])
        ledger.current.apply(connection, latest.partition, [latest])
    assert site.record() == latest


@pytest.mark.parametrize(
    "lie",
    [{"version": 9}, {"leaf_hash": bytes(32)}, {"site_id": UUID(int=7)}, {"partition": 5}],
)
def test_a_record_whose_event_is_not_in_the_log_is_not_taken(
    ledger: Ledger, owner: Owner, lie: dict[str, Any]
) -> None:
    """Only what the log holds becomes current: version and leaf must name an event of it."""
    site = ledger.create_site()
    record = site.update({"createInvoice": True})
    false = replace(record, settings={"createInvoice": "lie"}, **lie)
    with ledger.database.connection() as connection:
        ledger.current.apply(connection, false.partition, [false])
    assert site.record() == record
    lies = owner.execute(
        """SELECT count(*) AS found FROM current_settings WHERE settings @> '{"createInvoice": "lie"}'"""
    ).fetchone()
    assert lies == {"found": 0}


def test_a_lost_row_is_made_again_by_its_record(ledger: Ledger, owner: Owner) -> None:
    """Applying the newest record where the row is missing restores it, position included."""
    site = ledger.create_site()
    record = site.update({"createInvoice": True})
    owner.execute("DELETE FROM current_settings WHERE site_id = %s", (site.site_id,))
    assert ledger.verify().fault is not None
    with ledger.database.connection() as connection:
        lock_partition(connection, record.partition)
        ledger.current.apply(connection, record.partition, [replace(record, position=0)])
    assert site.record() == record
    assert ledger.verify().fault is None


def test_rows_are_paged_by_originator(ledger: Ledger) -> None:
    """Pages follow one another without gap or overlap, and end."""
    made = {ledger.create_site().site_id for _ in range(5)}
    seen: list[UUID] = []
    after: UUID | None = None
    with ledger.database.connection() as connection:
        while page := ledger.current.page(connection, 0, after, 2):
            assert len(page) <= 2
            seen += page
            after = list(page)[-1]
    assert seen == sorted(set(seen))
    assert {originator_id(site_id, ORDERS_SETTINGS.fqdn) for site_id in made} <= set(seen)


# --- a kind that is declared after its sites exist ------------------------------------------------


def test_a_new_kind_serves_its_defaults_at_version_zero(ledger: Ledger) -> None:
    """Before the first change an existing site has the new kind's defaults, and no event."""
    site = ledger.create_site()
    gifts = ledger.site(site.site_id, GIFTS)
    record = gifts.record()
    assert (record.version, record.position, record.leaf_hash) == (0, 0, None)
    assert record.settings == {"giftWrap": False, "paper": "blue"}
    assert record.created == record.updated == ledger.directory.site(site.site_id).created_at
    assert list(gifts.history.changes()) == []


def test_the_first_patch_of_a_new_kind_creates_and_changes(ledger: Ledger) -> None:
    """The first change appends the creation and the change, in one go and in that order."""
    site = ledger.create_site()
    gifts = ledger.site(site.site_id, GIFTS)
    record = gifts.update({"giftWrap": True}, if_version=0)
    assert record.version == 2
    assert record.settings == {"giftWrap": True, "paper": "blue"}
    changed, creation = gifts.history.changes()
    assert (creation.version, changed.version) == (1, 2)
    assert changed.position == creation.position + 1
    assert creation.changes == {"giftWrap": {"to": False}, "paper": {"to": "blue"}}
    assert changed.changes == {"giftWrap": {"from": False, "to": True}}
    assert changed.timestamp > creation.timestamp
    assert site.record().version == 1
    assert gifts.update({"paper": "red"}).version == 3
    assert ledger.verify().fault is None


def test_racing_first_patches_of_a_new_kind_create_once(
    place: TestDatabase, ledger: Ledger
) -> None:
    """Many first changes at once, from two processes' worth of writers, give one creation."""
    site = ledger.create_site()
    with Ledger.open(database_url=place.server_url, secret_key=root_of(ledger)) as second:
        threads = [
            threading.Thread(
                target=each.site(site.site_id, GIFTS).update, args=({"paper": str(uuid4())},)
            )
            for each in (ledger, second)
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    changes = ledger.site(site.site_id, GIFTS).history.changes()
    assert [change.version for change in changes] == list(range(17, 0, -1))
    assert [change.actor is None for change in changes] == [False] * 16 + [True]
    assert ledger.verify().fault is None


def root_of(ledger: Ledger) -> str:
    return (ledger.config.data_dir / "secret.key").read_text()
