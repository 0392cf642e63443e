"""Mistakes of our own and refusals at odd moments: nobody waits for ever, nobody pays for another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from faults.evidence import examine
from faults.locks import held_lock
from faults.opening import SOMEONE, opened, provenance, submit, update, writer_of
from faults.waiting import eventually

from ledger import eventlog
from ledger.batch import Offer, read_surroundings
from ledger.errors import ChangeRefused, LedgerError, OutcomeUnknown, VersionMismatch
from ledger.idempotency import Idempotency
from ledger.identity import Identity
from ledger.orders_settings import ORDERS_SETTINGS

INVOICE = {"createInvoice": True}
LONG = 30.0
"""Seconds, far beyond every deadline: whoever waits longer waits for ever."""


@pytest.fixture
def database(fresh_database):
    return fresh_database()


@pytest.fixture
def ledger(database, monkeypatch):
    # However slow the machine, what was read is still relied on.
    monkeypatch.setattr("ledger.memory.CLOCK_LIFE", 3600.0)
    with opened(database.server_url) as ledger:
        yield ledger


@pytest.fixture
def sites(ledger):
    """Two sites at version 2 that the writer knows."""
    sites = [ledger.create_site() for _ in range(2)]
    for site in sites:
        update(ledger, site.site_id, {})
    eventually(lambda: not writer_of(ledger)._turn.locked())
    return sites


def mistaken(*_: object) -> None:
    raise RuntimeError("a mistake")


@pytest.mark.parametrize("times", [1, 1000])
def test_a_mistake_while_reading_is_answered(ledger, sites, monkeypatch, times):
    """What was read for is recorded where the mistake passes, and told where it does not."""
    left = [mistaken] * times

    def read(*asked):
        return (left.pop() if left else read_surroundings)(*asked)

    monkeypatch.setattr("ledger.recording.read_surroundings", read)
    change = submit(ledger, sites[0].site_id, {}, if_match=(2,))
    if times == 1:
        assert change.result(LONG).version == 3
    else:
        assert isinstance(change.exception(LONG), LedgerError)
    monkeypatch.undo()
    assert update(ledger, sites[0].site_id, {}).version >= 3


def test_a_mistake_over_a_repeat_is_answered(ledger, sites, monkeypatch):
    """A repeated request that cannot be read is told so, whatever the reason."""
    key = Idempotency("credential", "key", b"request")
    update(ledger, sites[0].site_id, {}, idempotency=key)
    with monkeypatch.context() as patched:
        patched.setattr(eventlog, "records_at", mistaken)
        again = submit(ledger, sites[0].site_id, {}, idempotency=key)
        assert isinstance(again.exception(LONG), LedgerError)
    assert update(ledger, sites[0].site_id, {}, idempotency=key).version == 3


def test_many_repeats_are_one_reading(ledger, sites, monkeypatch):
    """However many repeats come together, the changes beside them wait for one round trip."""
    keys = [Idempotency("credential", f"key/{number}", b"request") for number in range(5)]
    for key in keys:
        update(ledger, sites[0].site_id, {}, idempotency=key)
    truly, readings = eventlog.records_at, []

    def records_at(connection, partition, places):
        readings.append(len(places))
        return truly(connection, partition, places)

    monkeypatch.setattr(eventlog, "records_at", records_at)
    with held_lock(ledger.database_url) as lock:
        submit(ledger, sites[1].site_id, {}, "ahead")
        lock.until_waiting()
        again = [submit(ledger, sites[0].site_id, {}, idempotency=key) for key in keys * 3]
        lock.release()
        records = [change.result(LONG) for change in again]
    assert [record.version for record in records] == [3, 4, 5, 6, 7] * 3
    assert readings == [5]
    records[0].settings["createInvoice"] = "spoilt"
    assert records[5].settings == ORDERS_SETTINGS.defaults()


@pytest.mark.parametrize("conditions", [{}, {"if_match": (2,)}], ids=["known", "read"])
def test_what_cannot_be_offered_costs_nobody_else(ledger, sites, monkeypatch, conditions):
    """The culprit is found by halves; the others of its batch are recorded."""
    truly, built = Offer.parameters, []

    def parameters(self, partition):
        built.append(len(self.events))
        if any(b'"origin":"poison"' in event.state for event in self.events):
            mistaken()
        return truly(self, partition)

    monkeypatch.setattr(Offer, "parameters", parameters)
    with held_lock(ledger.database_url) as lock:
        submit(ledger, sites[1].site_id, {}, "ahead")
        lock.until_waiting()
        poison = submit(ledger, sites[0].site_id, {}, "poison", **conditions)
        innocent = submit(ledger, sites[1].site_id, {}, "innocent")
        lock.release()
        assert isinstance(poison.exception(LONG), LedgerError)
        assert innocent.result(LONG).version == 4
    assert len(built) < 8
    assert examine(ledger.database_url).tags == {"ahead": 1, "innocent": 1}


REFUSE_ACTOR = """
CREATE FUNCTION refuse_actor() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.subject_id = 'refused' THEN
        RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse_actor BEFORE INSERT ON actors FOR EACH ROW EXECUTE FUNCTION refuse_actor();
"""


def test_a_refused_reading_breaks_no_order(database, ledger, sites):
    """Where the database refuses somebody, a site's changes still follow each other as asked."""
    with psycopg.connect(database.owner_url) as owner:
        owner.execute(REFUSE_ACTOR)
    site, other = (site.site_id for site in sites)
    with held_lock(ledger.database_url) as lock:
        submit(ledger, other, {}, "ahead")
        lock.until_waiting()
        first = submit(ledger, site, INVOICE, "first")
        who = replace(provenance("refused"), actor=Identity.member("refused"))
        refused = ledger.submit(other, ORDERS_SETTINGS, {}, who)
        second = submit(ledger, site, {}, "second", if_match=(2,))
        third = submit(ledger, site, {}, "third")
        eventually(lambda: len(writer_of(ledger)._batches._unread) == 3)
        lock.release()
        assert (first.result(LONG).version, third.result(LONG).version) == (3, 4)
        assert isinstance(second.exception(LONG), VersionMismatch)
        assert isinstance(refused.exception(LONG), ChangeRefused)
    assert examine(database.server_url).tags == {"ahead": 1, "first": 1, "third": 1}


def test_no_answer_comes_before_its_time_whatever_is_read_later(ledger, sites):
    """A clock that is carried on ahead of the database's is waited for, in any company."""
    site, other = (site.site_id for site in sites)
    writer = writer_of(ledger)
    with (
        held_lock(ledger.database_url) as lock,
        psycopg.connect(ledger.database_url, autocommit=True) as connection,
    ):
        submit(ledger, other, {}, "ahead")
        lock.until_waiting()
        clock, read_at = writer._memory._clock
        writer._memory._clock = (clock + timedelta(seconds=0.4), read_at)
        first = submit(ledger, site, INVOICE, "first")
        eventually(lambda: len(writer._batches._draft.commands) == 1)
        submit(ledger, other, {}, "second", if_match=(3,))
        eventually(lambda: len(writer._batches._unread) == 1)
        lock.release()
        record = first.result(LONG)
        now = connection.execute("SELECT clock_timestamp()").fetchone()[0]
    assert record.updated <= now


def test_a_mistake_between_draft_and_flight_is_answered(ledger, sites, monkeypatch):
    """Whatever fails as a batch is launched, its callers hear of it."""
    with monkeypatch.context() as patched:
        patched.setattr(writer_of(ledger)._memory, "remember", mistaken)
        change = submit(ledger, sites[0].site_id, {}, "lost")
        assert isinstance(change.exception(LONG), OutcomeUnknown)
    assert update(ledger, sites[0].site_id, {}).version >= 3
    examine(ledger.database_url)


def test_a_mistake_before_a_lone_caller_begins_is_answered(ledger, sites, monkeypatch):
    """A lone caller whose change cannot even be looked up does not wait for ever."""
    with monkeypatch.context() as patched, ThreadPoolExecutor(1) as threads:
        patched.setattr(writer_of(ledger)._memory, "covers", mistaken)
        change = threads.submit(sites[0].update, {}, by=SOMEONE)
        assert isinstance(change.exception(LONG), OutcomeUnknown)
    assert update(ledger, sites[0].site_id, {}).version == 3


def test_a_lost_attempt_of_an_abandoned_flight_is_forgotten(ledger, sites, monkeypatch):
    """What was in doubt when a mistake was met is not held against a later refusal."""
    link = writer_of(ledger)._link

    def lost(_flight):
        link._in_doubt = True
        mistaken()

    with monkeypatch.context() as patched:
        patched.setattr(writer_of(ledger)._recording, "answer_to", lost)
        change = submit(ledger, sites[0].site_id, {}, "lost")
        assert isinstance(change.exception(LONG), OutcomeUnknown)
    eventually(lambda: not writer_of(ledger)._in_flight)
    assert not link._in_doubt
