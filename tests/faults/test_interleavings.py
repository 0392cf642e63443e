"""The interleavings that were seen to lose, repeat or misplace changes elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg

from faults.evidence import examine, leaf
from faults.locks import HeldLock, cut, held_lock
from faults.opening import SECRET, opened, submit, update, writer_of
from faults.processes import ROOT
from faults.waiting import eventually
from ledger import timestamps
from ledger.aggregate import Attribution, SiteSettings, originator_id
from ledger.canonical import canonical_bytes
from ledger.database import Database
from ledger.identity import Via
from ledger.orders_settings import ORDERS_SETTINGS


def append_by_hand(connection, site_id: uuid.UUID, timestamp: str) -> None:
    """Another writer's change, written with plain statements and not committed here."""
    key = originator_id(site_id, ORDERS_SETTINGS.fqdn)
    row = connection.execute(
        """
        SELECT originator_version, state, leaf_hash,
               (SELECT max(position) FROM events WHERE partition = 0)
        FROM events WHERE partition = 0 AND originator_id = %s
        ORDER BY originator_version DESC LIMIT 1
        """,
        (key,),
    ).fetchone()
    version, state, previous, position = row
    facts = {
        **json.loads(state),
        "event_id": str(uuid.uuid4()),
        "timestamp": timestamp,
        "patch": {},
        "changes": {},
        "actor": {"type": "APP", "ref": str(uuid.uuid4()), "commitment": "0" * 64},
    }
    new_state = canonical_bytes(facts)
    new_leaf = leaf(key, version + 1, previous, "ledger:SettingsChanged", new_state)
    connection.execute(
        "INSERT INTO events VALUES (0, %s, %s, %s, 'ledger:SettingsChanged', %s, %s)",
        (position + 1, key, version + 1, new_state, new_leaf),
    )
    connection.execute(
        """
        UPDATE current_settings
        SET version = %s, position = %s, leaf_hash = %s, updated_at = %s
        WHERE partition = 0 AND originator_id = %s
        """,
        (version + 1, position + 1, new_leaf, timestamp, key),
    )


def now(connection) -> datetime:
    return connection.execute("SELECT clock_timestamp()").fetchone()[0]


def test_the_append_looks_only_once_it_holds_the_lock(ledger):
    """A writer that waited sees what the one before it committed meanwhile, on site and log."""
    site, other = ledger.create_site(), ledger.create_site()
    with held_lock(ledger.database_url) as lock:
        append_by_hand(lock.holder, site.site_id, timestamps.stored(now(lock.holder)))
        same = submit(ledger, site.site_id, {"createInvoice": True}, "same")
        elsewhere = submit(ledger, other.site_id, {"createInvoice": True}, "elsewhere")
        lock.until_waiting()
        lock.release()
        assert (same.result().version, elsewhere.result().version) == (3, 2)
    evidence = examine(ledger.database_url)
    assert len(evidence.events) == 5
    assert evidence.tags == {"same": 1, "elsewhere": 1}


def test_a_lost_client_whose_backend_still_commits_is_recorded_once(ledger):
    """The cut-off backend and the retry both run; the change is in the log once, and answered."""
    site = ledger.create_site()
    with held_lock(ledger.database_url) as lock:
        change = submit(ledger, site.site_id, {"createInvoice": True}, "once")
        lock.until_waiting()
        abandoned = cut(writer_of(ledger))
        pids = lock.until_waiting(2)
        assert abandoned in pids
        lock.release()
        record = change.result()
    evidence = examine(ledger.database_url)
    assert evidence.tags == {"once": 1}
    assert evidence.places["once"] == (record.version, record.position) == (2, 2)


def test_a_backend_that_is_cut_off_too_late_to_be_retried_in_time_is_no_danger(ledger):
    """Held longer than a stamp lasts, neither the lost append nor its retry goes in as it was."""
    site = ledger.create_site()
    with held_lock(ledger.database_url) as lock:
        change = submit(ledger, site.site_id, {"createInvoice": True}, "once")
        lock.until_waiting()
        cut(writer_of(ledger))
        lock.until_waiting(2)
        lock.until_clock(1.1)
        lock.release()
        assert change.result().version == 2
    assert examine(ledger.database_url).tags == {"once": 1}


ENVIRONMENT = {
    "COMPRESSOR_TOPIC": "eventsourcing.compressor:ZlibCompressor",
    "CIPHER_TOPIC": "eventsourcing.cipher:AESCipher",
    "CIPHER_KEY": "0123456789abcdef0123456789abcdef",
    "PERSISTENCE_MODULE": "eventsourcing.sqlite",
    "IS_SNAPSHOTTING_ENABLED": "",
    "SETTINGSLEDGER_COMPRESSOR_TOPIC": "eventsourcing.compressor:ZlibCompressor",
    "SETTINGSLEDGER_PERSISTENCE_MODULE": "eventsourcing.popo",
}
PROGRAM = """
import sys, uuid
from ledger import Ledger
from ledger.aggregate import SiteSettings
from ledger.identity import Via
from ledger.orders_settings import ORDERS_SETTINGS
from datetime import UTC, datetime
with Ledger.open(database_url=sys.argv[1], secret_key=sys.argv[2]) as ledger:
    site = ledger.create_site()
    site.update({"createInvoice": True})
    by_hand = SiteSettings.create(uuid.uuid4(), ORDERS_SETTINGS, Via("library"), datetime.now(UTC))
    ledger.application(0).save(by_hand)
    assert ledger.application(0).repository.get(by_hand.id) == by_hand
"""


def test_the_environment_does_not_reach_the_stored_bytes(database):
    """Variables that would compress, encrypt or move the library's events change nothing here."""
    subprocess.run(
        [sys.executable, "-c", PROGRAM, database.server_url, SECRET],
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    facts = examine(database.server_url).facts
    assert [fact["kind"] for fact in facts] == ["wix.ecom.v1.orders_settings"] * 3


def test_a_site_that_moved_meanwhile_runs_again_whole_and_holds_up_no_other(ledger):
    """Of one batch, the moved site's changes are refused together, and the other's recorded."""
    moved, unmoved, third = (ledger.create_site().site_id for _ in range(3))
    with held_lock(ledger.database_url) as lock, ThreadPoolExecutor() as pool:
        ahead = submit(ledger, third, {}, "ahead")
        lock.until_waiting()
        queued_behind = pool.submit(HeldLock, ledger.database_url, 0)
        lock.until_waiting(2)
        batch = {
            f"{name}/{number}": submit(ledger, site, {"createInvoice": True}, f"{name}/{number}")
            for number in range(3)
            for name, site in (("moved", moved), ("unmoved", unmoved))
        }
        lock.release()
        second_lock = queued_behind.result()
        second_lock.until_waiting()
        append_by_hand(second_lock.holder, moved, timestamps.stored(now(second_lock.holder)))
        second_lock.release()
        records = {tag: change.result() for tag, change in batch.items()}
        second_lock.close()
    assert ahead.result().position == 4
    places = [(tag, record.version, record.position) for tag, record in records.items()]
    assert sorted(places, key=lambda place: place[2]) == [
        ("unmoved/0", 2, 6),
        ("unmoved/1", 3, 7),
        ("unmoved/2", 4, 8),
        ("moved/0", 3, 9),
        ("moved/1", 4, 10),
        ("moved/2", 5, 11),
    ]
    assert examine(ledger.database_url).tags == dict.fromkeys(["ahead", *batch], 1)


def test_a_site_that_two_processes_move_gets_the_changes_of_each_together(database):
    """Changes of one site that two ledgers batch at once are consecutive, none torn apart."""
    with opened(database.server_url) as first, opened(database.server_url) as second:
        tags = _race(first, second, first.create_site().site_id)
    assert examine(database.server_url).tags == dict.fromkeys(tags, 1)


def _race(first, second, site_id: uuid.UUID) -> set[str]:
    """Both ledgers offer three changes of the site at once; checks that none is torn apart."""
    with held_lock(first.database_url) as lock:
        changes = {}
        for name, ledger in (("first", first), ("second", second)):
            blocker = submit(ledger, site_id, {}, f"{name}/blocker")
            eventually(lambda ledger=ledger: writer_of(ledger)._in_flight)
            changes[f"{name}/blocker"] = blocker
            for number in range(3):
                tag = f"{name}/{number}"
                changes[tag] = submit(ledger, site_id, {"createInvoice": True}, tag)
        lock.until_waiting(2)
        lock.release()
        versions = {tag: change.result().version for tag, change in changes.items()}
    for name in ("first", "second"):
        own = [versions[f"{name}/{number}"] for number in range(3)]
        assert own == list(range(own[0], own[0] + 3))
    assert len(set(versions.values())) == len(versions)
    return set(changes)


def test_an_append_that_waited_longer_than_a_second_is_stamped_anew(ledger):
    """What got the lock late bears a time at which readers could already know it was coming."""
    site = ledger.create_site()
    with held_lock(ledger.database_url) as lock:
        change = submit(ledger, site.site_id, {"createInvoice": True}, "late")
        lock.until_waiting()
        lock.until_clock(1.1)
        released = now(lock.holder)
        lock.release()
        record = change.result()
    assert record.updated > released
    assert examine(ledger.database_url).tags == {"late": 1}


def test_an_append_that_waited_less_keeps_its_stamp(ledger):
    """A short wait for the lock costs no second fold."""
    site = ledger.create_site()
    with held_lock(ledger.database_url) as lock:
        change = submit(ledger, site.site_id, {"createInvoice": True})
        lock.until_waiting()
        before = now(lock.holder)
        lock.release()
        assert change.result().updated < before


def attribution() -> Attribution:
    actor = {"type": "APP", "ref": str(uuid.uuid4()), "commitment": "0" * 64}
    return Attribution(actor=actor, via=Via("library"))


def test_a_clock_that_jumps_back_does_not_turn_time_around():
    """A change whose clock shows an earlier time is stamped a microsecond after the last."""
    noon = datetime(2026, 1, 5, 12, tzinfo=UTC)
    settings = SiteSettings.create(uuid.uuid4(), ORDERS_SETTINGS, Via("library"), noon)
    for moment in (noon.replace(hour=11), noon, noon.replace(hour=3)):
        settings.change(ORDERS_SETTINGS, {}, attribution(), moment)
    stamps = [event.timestamp for event in settings.collect_events()]
    assert stamps == [noon.replace(microsecond=tick) for tick in range(4)]


def test_events_from_a_clock_ahead_are_followed_in_time(ledger):
    """After an event stamped in the future, changes go on a microsecond apart."""
    site = ledger.create_site()
    future = "2126-01-01T00:00:00.000000Z"
    with psycopg.connect(ledger.database_url) as connection:
        append_by_hand(connection, site.site_id, future)
    updated = [update(ledger, site.site_id, {}).updated for _ in range(3)]
    assert updated == [timestamps.parse(f"2126-01-01T00:00:00.00000{tick}Z") for tick in (1, 2, 3)]
    assert ledger.verify().fault is None
    examine(ledger.database_url)


def test_nobody_but_the_writer_hands_out_positions(ledger):
    """Events of two partitions do not wait for each other's lock, and each is dense alone."""
    with (
        Database(ledger.database_url) as database,
        database.connect("test") as connection,
        held_lock(ledger.database_url, partition=1),
    ):
        site = ledger.create_site()
        assert update(ledger, site.site_id, {}).position == 2
        assert connection.execute("SELECT count(*) AS n FROM events").fetchone() == {"n": 2}
