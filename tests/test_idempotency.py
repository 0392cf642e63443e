"""Idempotency keys: a request repeated with its key is one change, wherever it is repeated."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from faults.evidence import examine
from faults.locks import held_lock
from faults.opening import opened, submit, update

from ledger.errors import ChangeRefused, IdempotencyConflict, VersionMismatch
from ledger.idempotency import Idempotency

INVOICE, NO_INVOICE = {"createInvoice": True}, {"createInvoice": False}
KEY = Idempotency("credential", "the key", b"request")
OTHER_REQUEST = Idempotency("credential", "the key", b"another request")


def test_a_repeated_request_changes_nothing_and_is_answered_as_the_first_time(ledger):
    """The second answer is the first one's, whatever was changed in between."""
    site = ledger.create_site().site_id
    first = update(ledger, site, INVOICE, "first", idempotency=KEY)
    update(ledger, site, NO_INVOICE, "between")
    assert update(ledger, site, INVOICE, "again", idempotency=KEY) == first
    assert examine(ledger.database_url).tags == {"first": 1, "between": 1}


def test_a_repeated_request_is_known_after_a_restart(database):
    """Keys are kept in the log's database, so that another process knows them."""
    with opened(database.server_url) as ledger:
        site = ledger.create_site().site_id
        first = update(ledger, site, INVOICE, "first", idempotency=KEY)
    with opened(database.server_url) as ledger:
        assert update(ledger, site, INVOICE, "again", idempotency=KEY) == first
    assert examine(database.server_url).tags == {"first": 1}


def test_another_request_with_the_same_key_is_a_conflict(ledger):
    """A key that comes with another request is refused, and nothing is changed."""
    site = ledger.create_site().site_id
    update(ledger, site, INVOICE, "first", idempotency=KEY)
    with pytest.raises(IdempotencyConflict):
        update(ledger, site, NO_INVOICE, "other", idempotency=OTHER_REQUEST)
    assert examine(ledger.database_url).tags == {"first": 1}


@pytest.mark.parametrize(
    "other",
    [
        Idempotency("someone else", "the key", b"request"),
        Idempotency("credential", "k", b"request"),
    ],
)
def test_keys_of_others_do_not_meet(ledger, other):
    """The same key of another credential, and another key of the same, are requests of their own."""
    site = ledger.create_site().site_id
    update(ledger, site, INVOICE, "first", idempotency=KEY)
    update(ledger, site, INVOICE, "second", idempotency=other)
    assert examine(ledger.database_url).tags == {"first": 1, "second": 1}


def test_a_key_belongs_to_one_site(ledger):
    """The same key on two sites is two requests."""
    for name in ("one", "two"):
        update(ledger, ledger.create_site().site_id, INVOICE, name, idempotency=KEY)
    assert examine(ledger.database_url).tags == {"one": 1, "two": 1}


def test_the_same_request_at_once_from_everywhere_is_one_change(database):
    """Sixteen callers in two ledgers with one key: one change, sixteen equal answers."""
    with opened(database.server_url) as east, opened(database.server_url) as west:
        site = east.create_site().site_id
        begin = threading.Barrier(16)

        def attempt(number: int):
            begin.wait()
            ledger = (east, west)[number % 2]
            return update(ledger, site, INVOICE, f"attempt/{number}", idempotency=KEY)

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(attempt, range(16)))
        assert all(answer == answers[0] for answer in answers)
    evidence = examine(database.server_url)
    assert len(evidence.tags) == 1
    assert evidence.versions.popitem()[1] == answers[0].version == 2


def test_two_ledgers_that_both_wait_for_the_lock_record_a_request_once(database):
    """The ledger that comes second has folded already when it learns that the key is used."""
    with opened(database.server_url) as east, opened(database.server_url) as west:
        site = east.create_site().site_id
        with held_lock(database.server_url) as lock:
            answers = []
            for number, ledger in enumerate((east, west), start=1):
                answers.append(submit(ledger, site, INVOICE, f"try/{number}", idempotency=KEY))
                lock.until_waiting(number)
            lock.release()
            first, second = (answer.result() for answer in answers)
    assert first == second
    assert examine(database.server_url).tags == {"try/1": 1}


def test_repetitions_and_conflicts_within_one_batch(ledger):
    """In one batch the first request counts, its repetition is answered alike, another is refused."""
    site = ledger.create_site().site_id
    with held_lock(ledger.database_url) as lock:
        submit(ledger, site, {}, "ahead")
        lock.until_waiting()
        first = submit(ledger, site, INVOICE, "first", idempotency=KEY)
        again = submit(ledger, site, INVOICE, "again", idempotency=KEY)
        other = submit(ledger, site, NO_INVOICE, "other", idempotency=OTHER_REQUEST)
        after = submit(ledger, site, {}, "after")
        lock.release()
        assert first.result() == again.result()
        assert [first.result().version, after.result().version] == [3, 4]
        with pytest.raises(IdempotencyConflict):
            other.result()
    assert examine(ledger.database_url).tags == {"ahead": 1, "first": 1, "after": 1}


def test_only_successes_are_kept(ledger):
    """A request that was refused may come again with its key, and with another content."""
    site = ledger.create_site().site_id
    with pytest.raises(VersionMismatch):
        update(ledger, site, INVOICE, "refused", if_match=(7,), idempotency=OTHER_REQUEST)
    assert update(ledger, site, INVOICE, "first", idempotency=KEY).version == 2
    assert examine(ledger.database_url).tags == {"first": 1}


def test_a_request_that_the_database_refused_keeps_no_key(database, ledger):
    """Where the database refused the change, its key is free."""
    site = ledger.create_site().site_id
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("ALTER TABLE events ADD CONSTRAINT no_more CHECK (position < 2) NOT VALID")
    with pytest.raises(ChangeRefused):
        update(ledger, site, INVOICE, "refused", idempotency=OTHER_REQUEST)
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("ALTER TABLE events DROP CONSTRAINT no_more")
    assert update(ledger, site, INVOICE, "first", idempotency=KEY).version == 2


def test_a_key_comes_before_the_version(ledger):
    """A repetition is answered as the first time, though its If-Match no longer holds."""
    site = ledger.create_site().site_id
    first = update(ledger, site, INVOICE, "first", if_match=(1,), idempotency=KEY)
    assert update(ledger, site, INVOICE, "again", if_match=(1,), idempotency=KEY) == first


def make_old(url: str, age: timedelta) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE idempotency_keys SET used_at = clock_timestamp() - %s", (age,))


def test_a_key_is_kept_for_a_day(database, ledger):
    """A request is recognised until its key is 24 hours old, and then is a new request."""
    site = ledger.create_site().site_id
    first = update(ledger, site, INVOICE, "first", idempotency=KEY)
    make_old(database.owner_url, timedelta(hours=23, minutes=59))
    assert update(ledger, site, INVOICE, "again", idempotency=KEY) == first
    make_old(database.owner_url, timedelta(hours=24))
    second = update(ledger, site, INVOICE, "next-day", idempotency=OTHER_REQUEST)
    assert second.version == 3
    assert update(ledger, site, INVOICE, "and-again", idempotency=OTHER_REQUEST) == second
    assert examine(ledger.database_url).tags == {"first": 1, "next-day": 1}


def test_keys_older_than_a_day_go_as_new_ones_come(database, ledger):
    """Each use of a key sweeps out up to two old ones, and none that is still kept."""
    site = ledger.create_site().site_id
    for number in range(4):
        update(ledger, site, {}, idempotency=Idempotency("old", str(number), b"request"))
    make_old(database.owner_url, timedelta(hours=25))
    for number in range(4):
        update(ledger, site, {}, idempotency=Idempotency("new", str(number), b"request"))
    with psycopg.connect(database.server_url) as connection:
        kept = connection.execute(
            "SELECT credential, count(*) FROM idempotency_keys GROUP BY credential"
        ).fetchall()
    assert kept == [("new", 4)]


def test_the_key_itself_is_not_stored(database, ledger):
    """Only a hash of the key lies in the database: a key may be somebody's secret."""
    update(ledger, ledger.create_site().site_id, {}, idempotency=KEY)
    with psycopg.connect(database.server_url) as connection:
        rows = connection.execute("SELECT * FROM idempotency_keys").fetchall()
    assert len(rows) == 1
    assert b"the key" not in repr(rows).encode()
