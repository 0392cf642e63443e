"""The writer: batches, refusals, deadlines, an unreachable database, and what a change costs."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from faults.evidence import examine
from faults.locks import cut, held_lock
from faults.opening import SECRET, SOMEONE, opened, provenance, submit, update, writer_of
from faults.refusing import REFUSE
from faults.waiting import eventually

from ledger import Identity
from ledger.aggregate import originator_id
from ledger.application import SettingsLedger
from ledger.database import Database
from ledger.doorbell import Doorbell
from ledger.errors import (
    ChangeRefused,
    InvalidInput,
    InvalidSettings,
    OutcomeUnknown,
    Unavailable,
    VersionMismatch,
)
from ledger.idempotency import Idempotency
from ledger.identity import Provenance, Via
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.writer import Writer
from projections.current import CurrentSettingsTable

NOBODY = "postgresql://ledger@127.0.0.1:1/nobody"
INVOICE = {"createInvoice": True}


def until_queued(ledger, count: int) -> None:
    """Return once so many commands wait behind the batch in flight."""
    writer = writer_of(ledger)
    eventually(lambda: len(writer._queue._waiting) + writer._queue.held == count)


# --- What a change is -------------------------------------------------------------------------


def test_a_change_is_answered_with_what_is_recorded(ledger):
    """The answer holds settings, version, position and dates as log and current row have them."""
    site = ledger.create_site()
    record = update(ledger, site.site_id, INVOICE, "first")
    evidence = examine(ledger.database_url)
    assert evidence.places["first"] == (record.version, record.position) == (2, 2)
    assert record.settings["createInvoice"] is True
    assert site.record() == record


def test_a_patch_that_changes_nothing_is_recorded(ledger):
    """Asking for what already stands is an event, too: somebody did ask."""
    site = ledger.create_site()
    assert update(ledger, site.site_id, {}).version == 2
    assert examine(ledger.database_url).facts[1]["changes"] == {}


def test_seeing_to_it_that_settings_exist_records_them_once(ledger):
    """A command without a patch creates the settings, and is only answered where they exist."""
    site = ledger.create_site()
    again = ledger.submit(site.site_id, ORDERS_SETTINGS, None, provenance()).result()
    assert (again.version, again.position) == (1, 1)
    assert len(examine(ledger.database_url).events) == 1


@pytest.mark.parametrize(
    "why",
    [
        provenance("has blanks"),
        provenance(request_id="ü"),
        provenance(reason=" "),
        provenance(reason="a\x00b"),
        provenance(reason="\ud800"),
        Provenance(Identity.wix_user("\ud800"), Via("library")),
        Provenance(Identity.wix_user("a\x00b"), Via("library")),
        Provenance(SOMEONE, Via("library"), on_behalf_of=Identity.member("\udfff")),
        Provenance(SOMEONE, Via("http", credential="\ud800")),
    ],
)
def test_what_cannot_be_stored_is_refused_at_the_door(ledger, why):
    """Text that the log cannot hold is refused before it can meet other changes in a batch."""
    site = ledger.create_site()
    with pytest.raises(InvalidInput):
        ledger.submit(site.site_id, ORDERS_SETTINGS, {}, why)
    assert site.record().version == 1


@pytest.mark.parametrize(
    ("credential", "key"), [("\ud800", "key"), ("a", "\ud800"), ("a\x00", "k")]
)
def test_a_key_that_cannot_be_stored_is_refused_at_the_door(ledger, credential, key):
    """An idempotency key that cannot be kept is refused, rather than changes made without it."""
    site = ledger.create_site()
    with pytest.raises(InvalidInput):
        submit(ledger, site.site_id, {}, idempotency=Idempotency(credential, key, b"request"))
    assert site.record().version == 1


def test_a_patch_against_the_rules_is_refused_at_the_door(ledger):
    """A patch that its kind refuses never reaches the writer."""
    site = ledger.create_site()
    with pytest.raises(InvalidSettings):
        submit(ledger, site.site_id, {"createInvoice": "yes"})
    assert site.record().version == 1


# --- Batches ----------------------------------------------------------------------------------


def test_what_waits_is_recorded_as_one_transaction(ledger):
    """Changes that queue behind a batch share the next one: one transaction, in order."""
    sites = [ledger.create_site().site_id for _ in range(4)]
    with held_lock(ledger.database_url) as lock:
        ahead = submit(ledger, sites[0], {})
        lock.until_waiting()
        changes = [submit(ledger, sites[n % 4], INVOICE, f"change/{n}") for n in range(40)]
        lock.release()
        records = [change.result() for change in changes]
    assert ahead.result().version == 2
    assert sorted(record.position for record in records) == list(range(6, 46))
    for first in range(1, 4):
        assert [record.version for record in records[first::4]] == list(range(2, 12))
    with psycopg.connect(ledger.database_url) as connection:
        transactions = connection.execute(
            "SELECT count(DISTINCT xmin::text) FROM events WHERE position > 5"
        ).fetchone()
    assert transactions == (1,)
    examine(ledger.database_url)


def test_a_change_that_the_database_refuses_fails_alone(database, ledger):
    """Of fifty changes in one batch, one refused by the database fails, and no other."""
    with psycopg.connect(database.owner_url) as connection:
        connection.execute(REFUSE)
    sites = [ledger.create_site().site_id for _ in range(5)]
    tags = ["refused" if n == 23 else f"change/{n}" for n in range(50)]
    with ThreadPoolExecutor(50) as pool, held_lock(database.server_url) as lock:
        ahead = submit(ledger, sites[0], {}, "ahead")
        lock.until_waiting()
        changes = {
            tag: pool.submit(update, ledger, sites[n % 5], INVOICE, tag)
            for n, tag in enumerate(tags)
        }
        until_queued(ledger, 50)
        lock.release()
        with pytest.raises(ChangeRefused, match="not this one"):
            changes.pop("refused").result()
        records = {tag: change.result() for tag, change in changes.items()}
    ahead.result()
    evidence = examine(database.server_url)
    assert evidence.tags == dict.fromkeys(["ahead", *records], 1)
    for tag, record in records.items():
        assert evidence.places[tag] == (record.version, record.position)


def test_a_refused_change_leaves_nothing_beside_the_log(database, ledger):
    """Neither the reason nor the idempotency key of a refused change is kept."""
    with psycopg.connect(database.owner_url) as connection:
        connection.execute(REFUSE)
    site = ledger.create_site()
    with pytest.raises(ChangeRefused):
        ledger.update(
            site.site_id,
            ORDERS_SETTINGS,
            INVOICE,
            provenance("refused", reason="because"),
            idempotency=Idempotency("key", "once", b"request"),
        )
    with psycopg.connect(database.server_url) as connection:
        for table in ("reasons", "idempotency_keys"):
            query = psycopg.sql.SQL("SELECT count(*) FROM {}").format(psycopg.sql.Identifier(table))
            assert connection.execute(query).fetchone() == (0,)


# --- If-Match ---------------------------------------------------------------------------------


def test_of_many_changes_of_one_version_one_wins(database):
    """Sixteen callers in two ledgers who all saw version 1: one changes it, fifteen learn why."""
    with opened(database.server_url) as east, opened(database.server_url) as west:
        site = east.create_site()
        begin = threading.Barrier(16)

        def attempt(number: int) -> str | int:
            begin.wait()
            try:
                ledger = (east, west)[number % 2]
                update(ledger, site.site_id, INVOICE, f"change/{number}", if_match=(1,))
            except VersionMismatch as error:
                return error.actual
            return "won"

        with ThreadPoolExecutor(16) as pool:
            outcomes = Counter(pool.map(attempt, range(16)))
    assert outcomes == {"won": 1, 2: 15}
    assert len(examine(database.server_url).tags) == 1


def test_if_match_is_judged_by_what_stands_before_in_the_batch(ledger):
    """Within one batch a change that expects the version before its predecessor is refused."""
    site = ledger.create_site().site_id
    with held_lock(ledger.database_url) as lock:
        ahead = submit(ledger, site, {}, "ahead")
        lock.until_waiting()
        second = submit(ledger, site, {}, "second", if_match=(2,))
        third = submit(ledger, site, {}, "third", if_match=(2,))
        fourth = submit(ledger, site, {}, "fourth", if_match=(7, 3))
        lock.release()
        assert [ahead.result().version, second.result().version] == [2, 3]
        with pytest.raises(VersionMismatch) as refusal:
            third.result()
        assert fourth.result().version == 4
    assert refusal.value.actual == 3
    assert examine(ledger.database_url).tags == dict.fromkeys(["ahead", "second", "fourth"], 1)


# --- Deadlines and a database that does not answer --------------------------------------------


@pytest.fixture
def stranded():
    """An application whose database nobody serves."""
    with Database(NOBODY, connect_timeout=1) as database:
        doorbell, current = Doorbell(database), CurrentSettingsTable()
        application = SettingsLedger(
            database, Writer(database, 0, current, doorbell), current, write_timeout=0.3
        )
        yield application
        application.close()
        doorbell.close()


def test_without_a_database_a_change_is_surely_not_recorded(stranded):
    """Where nobody answers, the caller learns by the deadline that nothing was recorded."""
    change = stranded.submit(uuid.uuid4(), ORDERS_SETTINGS, INVOICE, provenance())
    with pytest.raises(Unavailable, match="was not recorded"):
        change.result()


def test_closing_without_a_database_ends(stranded):
    """Closing waits for the deadlines of what waits, and no longer; nothing comes in then."""
    changes = [
        stranded.submit(uuid.uuid4(), ORDERS_SETTINGS, INVOICE, provenance()) for _ in range(5)
    ]
    stranded.close()
    assert all(isinstance(change.exception(), Unavailable) for change in changes)
    with pytest.raises(Unavailable, match="closing"):
        stranded.submit(uuid.uuid4(), ORDERS_SETTINGS, INVOICE, provenance())


def test_closing_records_what_waits(database):
    """Changes that were queued when the ledger was closed are recorded and answered."""
    ledger = opened(database.server_url)
    site = ledger.create_site().site_id
    with ThreadPoolExecutor() as pool, held_lock(database.server_url) as lock:
        ahead = submit(ledger, site, {}, "ahead")
        lock.until_waiting()
        waiting = [submit(ledger, site, {}, f"waiting/{n}") for n in range(10)]
        closing = pool.submit(ledger.close)
        eventually(lambda: writer_of(ledger)._queue._closed)
        lock.release()
        closing.result()
    assert ahead.result().version == 2
    assert [change.result().version for change in waiting] == list(range(3, 13))
    assert len(examine(database.server_url).events) == 12


def test_a_full_queue_refuses_at_once(database):
    """The change that finds the queue full is refused before it waits, and is not recorded."""
    with opened(database.server_url, queue_size=2) as ledger:
        site = ledger.create_site().site_id
        with held_lock(database.server_url) as lock:
            changes = [submit(ledger, site, {}, "flying")]
            lock.until_waiting()
            changes += [submit(ledger, site, {}, f"waiting/{n}") for n in range(2)]
            with pytest.raises(Unavailable, match="Too many"):
                submit(ledger, site, {}, "refused")
            lock.release()
            assert [change.result().version for change in changes] == [2, 3, 4]
    assert examine(database.server_url).tags.keys() == {"flying", "waiting/0", "waiting/1"}


def test_the_writer_outlives_changes_that_expire(database):
    """What was sent ends as unknown, what waited as not recorded; what comes later is recorded."""
    with opened(database.server_url, write_timeout=0.3) as ledger:
        site = ledger.create_site().site_id
        with held_lock(database.server_url) as lock:
            sent = submit(ledger, site, {}, "sent")
            lock.until_waiting()
            waited = submit(ledger, site, {}, "waited")
            assert isinstance(sent.exception(), OutcomeUnknown)
            assert isinstance(waited.exception(), Unavailable)
            lock.release()
        eventually(lambda: not writer_of(ledger)._in_flight)
        eventually(lambda: not writer_of(ledger)._queue._waiting)
        assert _persistently(ledger, site, "later").version >= 2
    evidence = examine(database.server_url)
    assert evidence.tags["later"] == 1
    assert evidence.tags["sent"] <= 1
    assert "waited" not in evidence.tags


def _persistently(ledger, site: uuid.UUID, tag: str):
    """The answer to a change with a short deadline; asks again while it is surely not recorded."""
    while True:
        try:
            return update(ledger, site, {}, tag)
        except Unavailable:
            continue


def test_an_unknown_outcome_is_settled_by_asking_again_with_the_same_key(database):
    """Cut off behind a held lock the outcome is unknown; repeated with its key, it is one change."""
    key = Idempotency("credential", "the same", b"request")
    with opened(database.server_url, write_timeout=0.3) as hasty:
        site = hasty.create_site().site_id
        with held_lock(database.server_url) as lock:
            change = submit(hasty, site, INVOICE, "once", idempotency=key)
            lock.until_waiting()
            cut(writer_of(hasty))
            lock.until_waiting(2)
            with pytest.raises(OutcomeUnknown, match="same Idempotency-Key"):
                change.result()
            lock.release()
            eventually(lambda: not lock.waiting())
    with opened(database.server_url) as patient:
        record = update(patient, site, INVOICE, "once", idempotency=key)
    evidence = examine(database.server_url)
    assert evidence.tags == {"once": 1}
    assert evidence.places["once"] == (record.version, record.position)


@pytest.mark.slow
def test_whoever_was_told_that_nothing_was_recorded_can_rely_on_it(database):
    """Under load with short deadlines: unavailable means absent, acknowledged means once."""
    outcomes: dict[str, str] = {}
    over = threading.Event()
    with opened(database.server_url, write_timeout=0.15) as ledger:
        sites = [ledger.directory.create_site().site_id for _ in range(3)]

        def caller(name: int) -> None:
            number = 0
            while not over.is_set():
                tag = f"{name}/{number}"
                number += 1
                try:
                    update(ledger, random.choice(sites), INVOICE, tag)
                except Unavailable:
                    outcomes[tag] = "unavailable"
                except OutcomeUnknown:
                    outcomes[tag] = "unknown"
                else:
                    outcomes[tag] = "acknowledged"

        with ThreadPoolExecutor(16) as pool:
            callers = [pool.submit(caller, name) for name in range(16)]
            for _ in range(12):
                with held_lock(database.server_url) as lock:
                    lock.until_waiting()
                    lock.until_clock(0.4)
            over.set()
            for done in callers:
                done.result()
    evidence = examine(database.server_url)
    counted = Counter(outcomes.values())
    assert counted.keys() == {"unavailable", "unknown", "acknowledged"}
    assert all(count == 1 for count in evidence.tags.values())
    for tag, outcome in outcomes.items():
        if outcome != "unknown":
            assert evidence.tags[tag] == (outcome == "acknowledged")


# --- What a change costs ----------------------------------------------------------------------

_BLOCKS = """
SELECT sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit + idx_blks_read, 0))::int
FROM pg_statio_user_tables
"""
_FETCHED = "SELECT sum(coalesce(idx_tup_fetch, 0) + seq_tup_read)::int FROM pg_stat_user_tables"
ROUNDS = 50


def counted(url: str) -> tuple[int, int]:
    """Blocks touched and rows fetched in this database, once every ledger has left it."""
    with psycopg.connect(url, autocommit=True) as connection:
        eventually(
            lambda: (
                connection.execute(
                    """
                SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                  AND backend_type = 'client backend'
                """
                ).fetchone()
                == (0,)
            )
        )
        return connection.execute(_BLOCKS).fetchone()[0], connection.execute(_FETCHED).fetchone()[0]


def cost(url: str, work) -> tuple[float, float]:
    """Blocks touched and rows fetched by one round of ``work``, on average."""
    with opened(url) as ledger:
        work(ledger)
    start = counted(url)
    with opened(url) as ledger:
        for _ in range(ROUNDS):
            work(ledger)
    end = counted(url)
    return (end[0] - start[0]) / ROUNDS, (end[1] - start[1]) / ROUNDS


def _aging(ledger, site: uuid.UUID, name: str):
    """One of many changes: by someone new, for a reason, under a key of its own."""
    why = Provenance(Identity.app(name), Via("library"), reason=name)
    key = Idempotency("credential", name, b"request")
    return ledger.submit(site, ORDERS_SETTINGS, INVOICE, why, idempotency=key)


@pytest.mark.slow
def test_getting_and_changing_a_site_costs_the_same_whatever_its_history(database):
    """A site with thousands of changes is read, rebuilt and changed at the cost of one with few."""
    url = database.server_url
    with opened(url) as ledger:
        site = ledger.create_site().site_id
    key = originator_id(site, ORDERS_SETTINGS.fqdn)
    repeated = Idempotency("credential", "early", b"request")
    works = {
        "get": lambda ledger: ledger.get(site),
        "rebuild": lambda ledger: ledger.application(0).repository.get(key),
        "replay": lambda ledger: update(ledger, site, INVOICE, idempotency=repeated),
        "update": lambda ledger: update(ledger, site, INVOICE),
    }
    young = {name: cost(url, work) for name, work in works.items()}
    # A ledger that grows old while its connections stay: plans made for a small log are kept.
    with opened(url) as ledger:
        update(ledger, site, INVOICE)
        for page in range(8):
            last = [_aging(ledger, site, f"{page}/{number}") for number in range(500)][-1]
            assert last.result().version > 500 * (page + 1)
        for _ in range(10):
            update(ledger, site, INVOICE)
    before = counted(url)
    old = {name: cost(url, work) for name, work in works.items()}
    assert before[1] < 4000 * 20, "folding four thousand changes fetched more than a few rows each"
    for name, (blocks, rows) in young.items():
        # An index that grew by a level costs one more block for each look-up.
        assert old[name][0] <= blocks * 1.5 + 5, name
        assert old[name][1] <= rows + 2, name


UNCLOSED = """
import sys
from ledger import Ledger

ledger = Ledger.open(database_url=sys.argv[1], secret_key=sys.argv[2])
site = ledger.create_site()
print(site.update({}).version)
"""


def test_a_program_ends_that_did_not_close_its_ledger(database):
    """What was answered is recorded; nothing waits for threads that are gone at a program's end."""
    program = [sys.executable, "-c", UNCLOSED, database.server_url, SECRET]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "2\n"


def test_a_closed_ledger_leaves_no_thread_behind(database):
    """A thread that still held a lock at the interpreter's end would hold up whoever needs it."""
    before = set(threading.enumerate())
    with opened(database.server_url) as ledger:
        ledger.create_site()
        own = {thread for thread in set(threading.enumerate()) - before if "writer" in thread.name}
        assert len(own) == 2
    assert not own & set(threading.enumerate())
