"""Following the log: every event becomes its rows exactly once, whoever is killed."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from faults.waiting import eventually
from histories import head, positions, rows, writing

from ledger import Ledger
from ledger.database import Database
from ledger.errors import DatabaseUnavailable, LedgerCorrupt, Unavailable, UnknownTopic
from ledger.history import Horizon
from projections import cursors, follow
from projections.follow import Follower
from projections.history import SettingsHistoryTable

if TYPE_CHECKING:
    from conftest import TestDatabase

ROOT = Path(__file__).parents[1]
FOLLOW = """
import sys, threading
from ledger import Ledger
with Ledger.open(database_url=sys.argv[1], data_dir=sys.argv[2]) as ledger:
    ledger.projections.follow(threading.Event())
"""


@pytest.fixture
def place(fresh_database: Callable[[], TestDatabase]) -> TestDatabase:
    """A database of the test's own."""
    return fresh_database()


@pytest.fixture
def ledger(place: TestDatabase) -> Iterator[Ledger]:
    with Ledger.open(database_url=place.server_url, migration_url=place.owner_url) as ledger:
        yield ledger


def assert_whole(ledger: Ledger) -> None:
    """The history has every event once, and says what the log says."""
    ledger.horizon.reach([0])
    assert positions(ledger) == list(range(1, head(ledger) + 1))
    assert [checked.fault for checked in ledger.projections.check()] == [None, None]


def terminate(ledger: Ledger, purpose: str) -> int:
    """Terminate the connections of one purpose; returns how many there were."""
    return len(
        rows(
            ledger,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = %s",
            f"settings-ledger {purpose}",
        )
    )


def test_a_step_takes_on_the_next_events_and_no_more(ledger: Ledger) -> None:
    """Rows and cursor move together, page by page, until there is nothing left."""
    site = ledger.create_site()
    for number in range(4):
        site.update({"createInvoice": number % 2 == 0})
    table = SettingsHistoryTable(ledger.database)
    taken = []
    while not taken or taken[-1]:
        with ledger.database.connection() as connection:
            taken.append(follow.step(connection, table, 0, limit=2))
            assert cursors.read(connection, table.name, 0) == sum(taken)
        assert positions(ledger) == list(range(1, sum(taken) + 1))
    assert taken == [2, 2, 1, 0]


def test_a_step_that_fails_leaves_nothing(ledger: Ledger) -> None:
    """Rows without their cursor, or the other way round, are never seen."""
    ledger.create_site()
    table = SettingsHistoryTable(ledger.database)
    with pytest.raises(RuntimeError):
        _fail_behind_a_step(ledger, table)
    assert positions(ledger) == []
    assert positions(ledger, "settings_history_fields") == []
    assert_whole(ledger)


def _fail_behind_a_step(ledger: Ledger, table: SettingsHistoryTable) -> None:
    with ledger.database.connection() as connection:
        assert follow.step(connection, table, 0) == 1
        raise RuntimeError


def test_a_read_sees_what_was_acknowledged_before_it(ledger: Ledger) -> None:
    """Without anybody who follows, the reader takes the events on itself."""
    site = ledger.create_site()
    for number in range(1, 6):
        version = site.update({"createInvoice": number % 2 == 0}).version
        assert site.history.changes()[0].version == version
    assert not any(row.followed for row in ledger.projections.status())


def test_a_read_does_not_depend_on_the_follower(ledger: Ledger) -> None:
    """A follower that holds its lock and does nothing holds no read up."""
    idle = ledger.projections.follower()
    try:
        assert idle.claim() == {0}
        site = ledger.create_site()
        site.update({"createInvoice": True})
        assert [change.version for change in site.history.changes()] == [2, 1]
        assert [row.followed for row in ledger.projections.status()] == [None, True]
    finally:
        idle.close()


def test_a_read_waits_no_longer_than_it_may(ledger: Ledger) -> None:
    """Where the history cannot be moved, a read ends with one clear sentence."""
    site = ledger.create_site()
    table = SettingsHistoryTable(ledger.database)
    impatient = Horizon(ledger.database, table, patience=0.2)
    with ledger.database.connection() as connection:
        cursors.hold(connection, table.name, 0)
        with pytest.raises(Unavailable, match=r"settings_history is 1 events behind the log"):
            impatient.reach([0])
    assert impatient.reach([0]) == {0: 1}
    assert len(site.history.changes()) == 1


def test_one_follows_and_the_next_takes_over(ledger: Ledger, place: TestDatabase) -> None:
    """A partition has one follower wherever it runs; whose connection breaks is replaced."""
    with Database(place.server_url) as elsewhere:
        table = SettingsHistoryTable(elsewhere)
        first = ledger.projections.follower()
        second = Follower(elsewhere, [table], lambda: [0])
        try:
            assert first.claim() == {0}
            assert second.claim() == set()
            ledger.create_site()
            assert second.step() == 0
            assert first.step() == 1
            first.close()
            # The server lets go of the lock as the broken connection ends.
            eventually(lambda: second.claim() == {0})
        finally:
            first.close()
            second.close()


def test_nothing_is_lost_or_doubled_when_connections_break(ledger: Ledger) -> None:
    """The follower's connection is cut again and again while writers write and others read."""
    sites = [ledger.create_site() for _ in range(4)]
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(ledger.projections.follow, stop)
        try:
            with writing(sites, 4, 40) as wait:
                for _ in range(6):
                    eventually(lambda: terminate(ledger, "projector"))
                    assert sites[0].history.changes(limit=1)
                assert wait() == 160
        finally:
            stop.set()
        following.result()
    assert_whole(ledger)


def test_nothing_is_lost_or_doubled_when_followers_are_killed(
    ledger: Ledger, place: TestDatabase, tmp_path: Path
) -> None:
    """Processes that follow are killed -9 in the midst of it; the next goes on behind them."""
    sites = [ledger.create_site() for _ in range(3)]
    (tmp_path / "data").mkdir(exist_ok=True)
    with writing(sites, 2) as wait:
        for _ in range(2):
            before = len(positions(ledger))
            with subprocess.Popen(
                [sys.executable, "-c", FOLLOW, place.server_url, str(ledger.config.data_dir)],
                cwd=ROOT,
            ) as process:
                eventually(lambda before=before: len(positions(ledger)) > before)
                process.kill()
        wait()
    assert_whole(ledger)


def test_a_topic_that_is_not_known_stops_the_history_loudly(
    ledger: Ledger, place: TestDatabase
) -> None:
    """What a newer program wrote is not passed over, by the follower or by a reader."""
    ledger.create_site()
    with psycopg.connect(place.owner_url) as owner:
        owner.execute(
            "INSERT INTO events VALUES (0, 2, %s, 1, 'ledger:SettingsMoved', %s, %s)",
            (uuid4(), b'{"timestamp":"2026-01-01T00:00:00.000000Z"}', bytes(32)),
        )
    with pytest.raises(UnknownTopic, match="Upgrade"):
        ledger.audit.search()
    with pytest.raises(UnknownTopic):
        ledger.projections.follow(threading.Event())
    [status] = [row for row in ledger.projections.status() if row.name == "settings_history"]
    assert (status.position, status.head, status.lag_events) == (1, 2, 1)
    assert status.lag_seconds >= 0


def test_a_gap_in_the_log_stops_the_history(ledger: Ledger, place: TestDatabase) -> None:
    """A position that is missing is noticed where it is."""
    ledger.create_site()
    with psycopg.connect(place.owner_url) as owner:
        owner.execute(
            "INSERT INTO events SELECT partition, 5, %s, 1, topic, state, leaf_hash FROM events",
            (uuid4(),),
        )
    with pytest.raises(LedgerCorrupt, match="position 5: follows position 1"):
        ledger.audit.search()


def test_the_status_says_how_far_the_history_is(ledger: Ledger) -> None:
    """Behind by so many events and by the age of the oldest of them; then not at all."""
    site = ledger.create_site()
    ledger.horizon.reach([0])
    site.update({"createInvoice": True})
    site.update({"createInvoice": False})
    current, history = ledger.projections.status()
    assert (current.name, current.lag_events, current.followed) == ("current_settings", 0, None)
    assert (history.name, history.position, history.head) == ("settings_history", 1, 3)
    assert history.lag_events == 2
    assert 0 < history.lag_seconds < 60
    ledger.horizon.reach([0])
    assert [row.lag_events for row in ledger.projections.status()] == [0, 0]
    assert [row.lag_seconds for row in ledger.projections.status()] == [0, 0]


def test_the_history_holds_no_personal_data(ledger: Ledger) -> None:
    """Neither a name nor a reason is in its rows: erasing them beside the log is enough."""
    site = ledger.create_site()
    from ledger import Identity

    site.update({"createInvoice": True}, reason="Mr Smith insisted", by=Identity.member("smith-77"))
    assert site.history.changes()[0].reason == "Mr Smith insisted"
    [row] = rows(
        ledger,
        "SELECT string_agg(to_jsonb(h)::text, '') || string_agg(to_jsonb(f)::text, '') AS all "
        "FROM settings_history h, settings_history_fields f",
    )
    assert "mith" not in row["all"]


def test_an_absent_database_is_told_of_once(monkeypatch, caplog):
    """A follower tries again for as long as it takes, and says so when it begins to."""
    stop, pauses = threading.Event(), []

    def wait(seconds):
        pauses.append(seconds)
        if len(pauses) == 5:
            stop.set()

    def absent(_follower):
        raise DatabaseUnavailable("The database does not answer.")

    monkeypatch.setattr(stop, "wait", wait)
    monkeypatch.setattr(Follower, "step", absent)
    with Database("postgresql://nobody@127.0.0.1:1/none") as database:
        Follower(database, [], list).run(stop)
    assert [record.getMessage() for record in caplog.records] == [
        "history cannot follow the log: The database does not answer."
    ]
    assert pauses == sorted(pauses)
