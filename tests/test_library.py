"""The library: a ledger opened in a program, and what it promises to whoever writes that program."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import conninfo

import ledger as package
from ledger import Identity, Ledger
from ledger.errors import (
    AlreadyExists,
    ConfigError,
    DatabaseUnavailable,
    InvalidInput,
    InvalidSettings,
    NotFound,
    SchemaOutdated,
    VersionMismatch,
)
from ledger.identity import Provenance, Via
from ledger.orders_settings import ORDERS_SETTINGS

if TYPE_CHECKING:
    from conftest import TestDatabase, TestServer

SECRET = "the root of every key in the tests of the library"


@pytest.fixture(scope="module")
def place(postgres: TestServer, template: TestDatabase) -> Iterator[TestDatabase]:
    with postgres.lent("ledger_library", template.name) as database:
        yield database


@pytest.fixture
def open_ledger(place: TestDatabase) -> Callable[..., Ledger]:
    """Open the module's database again, as another process would."""

    def open_it(**options: object) -> Ledger:
        return Ledger.open(**{"database_url": place.server_url, "secret_key": SECRET} | options)

    return open_it


@pytest.fixture
def ledger(open_ledger: Callable[..., Ledger]) -> Iterator[Ledger]:
    with open_ledger() as ledger:
        yield ledger


# --- the ten lines ---------------------------------------------------------------------------------


def test_ten_lines_do_the_whole_job(place: TestDatabase) -> None:
    """Create a site, change it, read it, and see who changed what, when and why."""
    with Ledger.open(database_url=place.server_url, secret_key=SECRET) as ledger:
        site = ledger.create_site(name="My shop")
        site.update({"createInvoice": True}, reason="The accountant asked for it")
        site.update({"emailNotifications": {"pickupReady": False}}, by=Identity.app("my-app"))
        settings = site.settings()
        newest, older, creation = site.history.changes()

    assert settings == {
        "inventoryUpdateTrigger": "ON_ORDER_PLACED",
        "createInvoice": True,
        "emailNotifications": {"orderPlaced": True, "orderShipped": True, "pickupReady": False},
    }
    assert newest.changes == {"emailNotifications.pickupReady": {"from": True, "to": False}}
    assert newest.actor == Identity.app("my-app")
    assert older.reason == "The accountant asked for it"
    assert older.actor == ledger.operator
    assert creation.version == 1


def test_the_database_url_is_one_that_anything_can_connect_with(
    ledger: Ledger, place: TestDatabase
) -> None:
    """``database_url`` is a plain string that psycopg takes as it is."""
    assert isinstance(ledger.database_url, str)
    with psycopg.connect(ledger.database_url) as connection:
        assert connection.info.dbname == place.name


def test_public_names_are_loaded_when_asked_for() -> None:
    """Everything in ``__all__`` is there, and anything else is an AttributeError."""
    for name in package.__all__:
        assert getattr(package, name).__module__.startswith("ledger.")
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        package.Nothing  # noqa: B018


# --- sites -------------------------------------------------------------------------------------------


def test_a_site_may_bring_its_own_id(ledger: Ledger) -> None:
    """An id is taken as UUID or text, and found again by either."""
    one, other = uuid4(), uuid4()
    assert ledger.create_site(one).site_id == one
    assert ledger.create_site(str(other)).site_id == other
    assert ledger.site(str(one)).record() == ledger.site(one).record()


def test_an_id_that_is_taken_is_refused(ledger: Ledger) -> None:
    """The second site of an id is AlreadyExists, and the first keeps its history."""
    site = ledger.create_site()
    site.update({"createInvoice": True})
    with pytest.raises(AlreadyExists):
        ledger.create_site(site.site_id)
    assert site.record().version == 2


def test_an_unknown_site_is_not_found(ledger: Ledger) -> None:
    """Reading and writing a site that was never created is NotFound, and creates nothing."""
    unknown = uuid4()
    for attempt in (lambda: ledger.site(unknown), lambda: ledger.get(unknown)):
        with pytest.raises(NotFound, match=f"There is no site {unknown}"):
            attempt()
    assert unknown not in {site.site_id for site in ledger.directory.sites()}


@pytest.mark.parametrize("wrong", ["", "my-shop", "1234", 7])
def test_an_id_that_is_no_uuid_is_named(ledger: Ledger, wrong: str) -> None:
    """A malformed id is an InvalidInput that says what was expected."""
    for attempt in (ledger.site, ledger.create_site):
        with pytest.raises(InvalidInput, match="site_id: expected a UUID"):
            attempt(wrong)


# --- changes -------------------------------------------------------------------------------------------


def test_a_read_after_a_write_sees_it(ledger: Ledger) -> None:
    """What update returns is what a read gives, at once."""
    site = ledger.create_site()
    for number in range(5):
        record = site.update({"createInvoice": number % 2 == 0})
        assert site.record() == record
        assert record.version == number + 2


def test_times_of_a_site_only_grow(ledger: Ledger) -> None:
    """Each change is later than the one before; the creation date stays."""
    site = ledger.create_site()
    created = site.record()
    records = [site.update({}) for _ in range(5)]
    assert {record.created for record in records} == {created.created}
    stamps = [record.updated for record in (created, *records)]
    assert stamps == sorted(set(stamps))


def test_a_bad_patch_records_nothing(ledger: Ledger) -> None:
    """A refused patch names every violation and leaves no trace."""
    site = ledger.create_site()
    with pytest.raises(InvalidSettings) as caught:
        site.update({"createInvoice": 1, "inventoryUpdateTrigger": "LATER", "nope": 1})
    assert [violation.field for violation in caught.value.violations] == [
        "ordersSettings.createInvoice",
        "ordersSettings.inventoryUpdateTrigger",
        "ordersSettings.nope",
    ]
    assert site.record().version == 1


def test_unknown_fields_are_dropped_where_config_says_so(
    open_ledger: Callable[..., Ledger],
) -> None:
    """With unknown_fields="ignore" the rest of the patch is recorded without them."""
    with open_ledger(unknown_fields="ignore") as lenient:
        site = lenient.create_site()
        assert site.update({"nope": 1, "createInvoice": True}).settings["createInvoice"] is True
        assert site.history.changes()[0].changes == {"createInvoice": {"from": False, "to": True}}


def test_an_update_may_insist_on_a_version(ledger: Ledger) -> None:
    """With if_version the change is made at that version only; otherwise nothing is recorded."""
    site = ledger.create_site()
    assert site.update({"createInvoice": True}, if_version=1).version == 2
    with pytest.raises(VersionMismatch, match="at version 2, not 1") as caught:
        site.update({"createInvoice": False}, if_version=1)
    assert (caught.value.expected, caught.value.actual) == ((1,), 2)
    assert site.settings()["createInvoice"] is True
    assert site.record().version == 2


def test_of_many_who_insist_on_one_version_one_wins(ledger: Ledger) -> None:
    """Compare-and-set holds under concurrency: one change, every other a VersionMismatch."""
    site = ledger.create_site()
    start = threading.Barrier(12)

    def attempt(number: int) -> bool:
        start.wait()
        try:
            site.update({}, reason=f"number {number}", if_version=1)
        except VersionMismatch:
            return False
        return True

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(attempt, range(12))) == 1
    assert site.record().version == 2


def test_concurrent_changes_of_one_site_are_all_recorded(ledger: Ledger) -> None:
    """Each of many updates at once gets a version of its own, dense, and its own settings."""
    site = ledger.create_site()

    def change(number: int) -> tuple[int, bool]:
        record = site.update({"createInvoice": number % 2 == 0}, reason=str(number))
        return record.version, record.settings["createInvoice"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(change, range(40)))
    assert sorted(version for version, _ in answers) == list(range(2, 42))
    for number, (version, value) in enumerate(answers):
        (recorded,) = site.history.changes(version, version)
        assert recorded.reason == str(number)
        assert recorded.settings["createInvoice"] is value is (number % 2 == 0)


def test_without_a_name_the_operator_acts(
    ledger: Ledger, open_ledger: Callable[..., Ledger]
) -> None:
    """The installation's operator is one WIX_USER, the same in every process."""
    site = ledger.create_site()
    site.update({})
    assert site.history.changes()[0].actor == ledger.operator
    with open_ledger() as second:
        assert second.operator == ledger.operator
    assert ledger.operator.type == "WIX_USER"
    UUID(ledger.operator.id)


def test_a_claimed_actor_is_recorded_as_asserted(ledger: Ledger, place: TestDatabase) -> None:
    """The event says whether the actor was claimed by the caller or is the installation's own."""
    site = ledger.create_site()
    site.update({})
    site.update({}, by=Identity.member("m"))
    with psycopg.connect(place.owner_url) as connection:
        rows = connection.execute(
            "SELECT state FROM events WHERE state::text IS NOT NULL "
            "AND convert_from(state, 'UTF8')::json->>'site_id' = %s ORDER BY position",
            (str(site.site_id),),
        ).fetchall()
    vias = [json.loads(bytes(state))["via"] for (state,) in rows]
    assert [via["asserted"] for via in vias] == [False, False, True]
    assert {via["channel"] for via in vias} == {"library"}


# --- several ledgers ---------------------------------------------------------------------------------


def test_two_ledgers_see_each_others_writes_at_once(
    ledger: Ledger, open_ledger: Callable[..., Ledger]
) -> None:
    """Taking turns, each continues from what the other has just written."""
    site = ledger.create_site()
    with open_ledger() as second:
        handles = [site, second.site(site.site_id)]
        for number in range(10):
            writer, reader = handles[number % 2], handles[1 - number % 2]
            record = writer.update({"createInvoice": number % 2 == 0})
            assert record.version == number + 2
            assert reader.record() == record
            assert reader.history.changes()[0].settings == record.settings


def test_two_ledgers_may_write_one_site_at_once(
    ledger: Ledger, open_ledger: Callable[..., Ledger]
) -> None:
    """Neither loses a change nor repeats a version, however they interleave."""
    site = ledger.create_site()
    with open_ledger() as second, ThreadPoolExecutor(8) as pool:
        handles = [site, second.site(site.site_id)]
        versions = list(pool.map(lambda number: handles[number % 2].update({}).version, range(40)))
    assert sorted(versions) == list(range(2, 42))
    assert ledger.verify().fault is None


def test_closing_and_opening_again_keeps_everything(open_ledger: Callable[..., Ledger]) -> None:
    """Another process, later, finds the same record and the same history."""
    with open_ledger() as first:
        site = first.create_site()
        site.update({"createInvoice": True}, reason="kept", by=Identity.app("a"))
        record, changes = site.record(), list(site.history.changes())
    with open_ledger() as second:
        again = second.site(site.site_id)
        assert again.record() == record
        assert list(again.history.changes()) == changes
        assert again.update({}).version == record.version + 1


def test_closing_waits_for_what_was_submitted(open_ledger: Callable[..., Ledger]) -> None:
    """Changes that wait when a ledger is closed are recorded before it is gone."""
    with open_ledger() as first:
        site = first.create_site()
        who = Provenance(first.operator, Via("library"))
        futures = [first.submit(site.site_id, ORDERS_SETTINGS, {}, who) for _ in range(20)]
    assert [future.result(timeout=0).version for future in futures] == list(range(2, 22))
    with open_ledger() as second:
        assert second.site(site.site_id).record().version == 21


def test_an_idle_connection_that_the_server_closed_costs_nothing(
    open_ledger: Callable[..., Ledger], place: TestDatabase
) -> None:
    """Where the server ends idle sessions the next change is recorded all the same."""
    options = "-c idle_session_timeout=100"
    url = conninfo.make_conninfo(place.server_url, options=options)
    with open_ledger(database_url=url) as impatient:
        site = impatient.create_site()
        connection = impatient.application(site.record().partition)._writer._link.connection
        assert connection is not None
        # The server may forget to count a session as idle that ended with a pipeline.
        connection.execute("SELECT 1")
        with psycopg.connect(place.admin_url, autocommit=True) as admin:
            while admin.execute(
                "SELECT FROM pg_stat_activity "
                "WHERE datname = %s AND application_name LIKE 'settings-ledger writer%%'",
                (place.name,),
            ).rowcount:
                admin.execute("SELECT pg_stat_clear_snapshot()")
        assert site.update({"createInvoice": True}).version == 2


def test_the_shells_settings_do_not_reach_the_stored_bytes(
    monkeypatch: pytest.MonkeyPatch, open_ledger: Callable[..., Ledger], place: TestDatabase
) -> None:
    """Variables that the eventsourcing library would obey change nothing of what is stored."""
    monkeypatch.setenv("COMPRESSOR_TOPIC", "zlib")
    monkeypatch.setenv("CIPHER_TOPIC", "eventsourcing.cipher:AESCipher")
    monkeypatch.setenv("PERSISTENCE_MODULE", "eventsourcing.sqlite")
    with open_ledger() as ledger:
        record = ledger.create_site().update({"createInvoice": True})
    with psycopg.connect(place.owner_url) as connection:
        row = connection.execute(
            "SELECT state FROM events WHERE position = %s", (record.position,)
        ).fetchone()
    assert row is not None
    assert json.loads(bytes(row[0]))["settings"] == record.settings


# --- opening -----------------------------------------------------------------------------------------


def test_a_database_without_tables_names_the_command(empty_database: TestDatabase) -> None:
    """A database that was never migrated is refused with the command that mends it."""
    with pytest.raises(SchemaOutdated, match="run `settings-ledger migrate`"):
        Ledger.open(database_url=empty_database.server_url, secret_key=SECRET)


def test_an_unreachable_database_is_named_at_once() -> None:
    """A refused connection is one clear sentence without the password."""
    with pytest.raises(
        DatabaseUnavailable, match="The database does not answer: .*refused"
    ) as said:
        Ledger.open(database_url="postgresql://me:hush@127.0.0.1:1/none", secret_key=SECRET)
    assert "hush" not in str(said.value)


def test_another_secret_key_is_refused(ledger: Ledger, open_ledger: Callable[..., Ledger]) -> None:
    """A database remembers which root key it was set up with, and the error repeats neither."""
    other = "another root of every key, just as long and just as good"
    with pytest.raises(ConfigError, match="set LEDGER_SECRET_KEY to the same") as caught:
        open_ledger(secret_key=other)
    assert SECRET not in str(caught.value)
    assert other not in str(caught.value)


def test_a_misspelt_option_is_refused() -> None:
    """A wrong option opens nothing in place of what was meant."""
    with pytest.raises(ConfigError, match="There is no option databaseurl"):
        Ledger.open(databaseurl="postgresql://h/db")


def test_a_ledger_that_failed_to_open_leaves_no_connection(
    open_ledger: Callable[..., Ledger], place: TestDatabase
) -> None:
    """An error while opening closes what was opened before it."""
    with open_ledger():
        pass
    with pytest.raises(ConfigError):
        open_ledger(secret_key="another root of every key, just as long and just as good")
    with psycopg.connect(place.admin_url, autocommit=True) as admin:
        while admin.execute(
            "SELECT FROM pg_stat_activity "
            "WHERE datname = %s AND application_name LIKE 'settings-ledger%%'",
            (place.name,),
        ).rowcount:
            admin.execute("SELECT pg_stat_clear_snapshot()")


def test_a_site_that_was_cut_off_in_the_making_is_completed(ledger: Ledger) -> None:
    """Asking again for a site without recorded settings records them, and only then refuses."""
    site = ledger.directory.create_site(name="Half made")
    assert ledger.get(site.site_id).version == 0
    assert ledger.create_site(site.site_id).record().version == 1
    with pytest.raises(AlreadyExists):
        ledger.create_site(site.site_id)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"by": "somebody"}, "actor"),
        ({"reason": 5}, "reason"),
        ({"by": Identity.wix_user("")}, "actor"),
    ],
)
def test_an_argument_of_the_wrong_type_is_named(
    ledger: Ledger, arguments: dict[str, Any], named: str
) -> None:
    """A program's mistake is told by the argument's name, and records nothing."""
    site = ledger.create_site()
    with pytest.raises(InvalidInput, match=f"^{named}: "):
        site.update({}, **arguments)
    assert site.record().version == 1


def test_no_patch_is_no_update(ledger: Ledger) -> None:
    """None in place of a patch is refused like anything else that is no object."""
    site = ledger.create_site()
    with pytest.raises(InvalidSettings, match="ordersSettings: is required"):
        site.update(None)
    assert site.record().version == 1
