"""The doorbell: readers hear of new events, and come upon them also when they do not."""

from __future__ import annotations

import threading
import uuid

import psycopg
import pytest
from faults.locks import held_lock
from faults.opening import opened, submit, update, writer_of
from faults.readers import subscriber
from faults.waiting import eventually

from ledger.aggregate import SiteSettings
from ledger.database import DOORBELL, Database
from ledger.doorbell import Doorbell, Listener
from ledger.identity import Via
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.timestamps import parse


@pytest.fixture
def ledger(fresh_database):
    with opened(fresh_database().server_url) as ledger:
        yield ledger


@pytest.fixture
def ears(ledger):
    """A session that hears every ring of this database."""
    with psycopg.connect(ledger.database_url, autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(DOORBELL)))
        yield connection


def heard(ears, timeout: float = 30.0):
    """The next ring, None where none came in time."""
    return next(ears.notifies(timeout=timeout, stop_after=1), None)


def test_a_change_rings(ledger, ears):
    """After a change was committed the bell rings, without a word of what it was."""
    update(ledger, ledger.create_site().site_id, {})
    assert heard(ears).payload == ""


def test_saved_events_ring(ledger, ears):
    """Events that Application.save appended ring as well."""
    moment = parse("2026-01-05T08:00:00.000000Z")
    settings = SiteSettings.create(uuid.uuid4(), ORDERS_SETTINGS, Via("library"), moment)
    ledger.application(0).save(settings)
    assert heard(ears) is not None


def test_whoever_hears_the_bell_finds_the_event(ledger, ears):
    """When the bell rings the change is committed: a reader who looks then sees it."""
    site = ledger.create_site()
    assert heard(ears) is not None
    while heard(ears, 0.05):
        pass
    change = submit(ledger, site.site_id, {})
    assert heard(ears) is not None
    with psycopg.connect(ledger.database_url) as connection:
        assert connection.execute("SELECT max(position) FROM events").fetchone() == (2,)
    change.result()


def test_the_bell_is_not_rung_by_the_writer(ledger, ears):
    """The ring comes from a connection of its own, never from the one that appends."""
    update(ledger, ledger.create_site().site_id, {})
    ring = heard(ears)
    assert ring.pid != writer_of(ledger)._link.connection.info.backend_pid
    name = ears.execute(
        "SELECT application_name FROM pg_stat_activity WHERE pid = %s", (ring.pid,)
    ).fetchone()
    assert name == ("settings-ledger doorbell",)


def test_the_bell_does_not_ring_before_the_commit(ledger, ears):
    """While a change waits for its partition's lock, nothing rings."""
    site = ledger.create_site()
    while heard(ears, 0.05):
        pass
    with held_lock(ledger.database_url) as lock:
        change = submit(ledger, site.site_id, {})
        lock.until_waiting()
        assert heard(ears, 0.05) is None
        lock.release()
        change.result()
    assert heard(ears) is not None


def test_many_rings_at_once_are_few(ledger, ears):
    """However often it is rung within a few milliseconds, the bell sounds far fewer times."""
    with Database(ledger.database_url) as database:
        doorbell = Doorbell(database)
        for _ in range(5000):
            doorbell.ring()
        doorbell.close()
    rings = 0
    while heard(ears, 0.05):
        rings += 1
    assert 1 <= rings < 500


def test_closing_rings_what_is_due(ledger, ears):
    """A ring asked for just before closing is still heard."""
    with Database(ledger.database_url) as database:
        doorbell = Doorbell(database)
        doorbell.ring()
        doorbell.close()
        assert heard(ears) is not None
        while heard(ears, 0.05):
            pass
        doorbell.ring()
        assert heard(ears, 0.05) is None


def test_a_bell_without_a_database_harms_nobody():
    """Ringing where nobody answers is dropped, and closing ends."""
    with Database("postgresql://ledger@127.0.0.1:1/nobody", connect_timeout=1) as database:
        doorbell = Doorbell(database)
        doorbell.ring()
        doorbell.close()


def end_backends(url: str, purpose: str) -> int:
    """Terminate this database's connections of one purpose; returns how many."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = %s
            """,
            (f"settings-ledger {purpose}",),
        ).rowcount


def test_a_lost_bell_is_replaced(ledger, ears):
    """After its connection was ended the bell rings again, at the latest at the next change."""
    site = ledger.create_site().site_id
    assert heard(ears) is not None
    assert end_backends(ledger.database_url, "doorbell") == 1

    def rung() -> bool:
        update(ledger, site, {})
        return heard(ears, 0.05) is not None

    eventually(rung)


def test_a_subscription_finds_events_without_a_bell(ledger, monkeypatch):
    """With the bell mute a subscription still comes upon every event, by looking for itself."""
    monkeypatch.setattr(Doorbell, "ring", lambda self: None)
    site = ledger.create_site().site_id
    with subscriber(ledger.application(0).recorder) as reader:
        eventually(lambda: reader.seen)
        for _ in range(5):
            update(ledger, site, {})
        seen = reader.finish(6)
    assert [position for position, _ in seen] == [1, 2, 3, 4, 5, 6]


def test_a_subscription_outlives_its_listener(ledger):
    """When the listening connection is ended, the subscription goes on with another."""
    site = ledger.create_site().site_id
    with subscriber(ledger.application(0).recorder) as reader:
        eventually(lambda: end_backends(ledger.database_url, "listener"))
        for _ in range(5):
            update(ledger, site, {})
        assert len(reader.finish(6)) == 6


def test_a_listener_that_lost_its_connection_looks_at_once(ledger):
    """A wait that was broken off counts as a ring: it may have rung unheard."""
    with Database(ledger.database_url) as database:
        listener = Listener(database)
        assert listener.wait(0)
        assert listener.wait(0) is False
        assert end_backends(ledger.database_url, "listener") == 1
        assert listener.wait(5)
        assert listener.wait(0)
        listener.close()


def test_a_listener_hears_the_bell(ledger):
    """A waiting listener returns as soon as the bell rings."""
    with Database(ledger.database_url) as database:
        listener, doorbell = Listener(database), Doorbell(database)
        listener.wait(0)
        bell = threading.Thread(target=doorbell.ring)
        bell.start()
        assert listener.wait(30)
        bell.join()
        listener.close()
        doorbell.close()


def test_a_close_just_as_it_rings_is_heard(fresh_database):
    """Whoever closes while a ring is being taken up does not wait for ever."""
    database = Database(fresh_database().server_url)
    doorbell = Doorbell(database)
    truly = doorbell._due.clear

    def clear() -> None:
        doorbell._due.clear = truly
        doorbell._closing.set()
        doorbell._due.set()
        truly()

    doorbell._due.clear = clear
    doorbell.ring()
    thread = doorbell._thread
    thread.join(30)
    assert not thread.is_alive()
    database.close()
