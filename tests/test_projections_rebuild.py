"""Rebuilding and checking the history: while it is read, and whatever somebody did to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from faults.waiting import eventually
from histories import PATCHES, head, positions, rows, writing

from ledger import Ledger
from ledger.errors import ConfigError, NotFound
from projections import rebuild

if TYPE_CHECKING:
    from conftest import TestDatabase

HISTORY = "settings_history"


@pytest.fixture
def place(fresh_database: Callable[[], TestDatabase]) -> TestDatabase:
    """A database of the test's own."""
    return fresh_database()


@pytest.fixture
def ledger(place: TestDatabase) -> Iterator[Ledger]:
    with Ledger.open(database_url=place.server_url, migration_url=place.owner_url) as ledger:
        yield ledger


@pytest.fixture
def owner(place: TestDatabase) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(place.owner_url, autocommit=True) as connection:
        yield connection


def catalogue(ledger: Ledger) -> list[Any]:
    """Indexes, constraints and privileges of the history's tables."""
    return [
        rows(ledger, query)
        for query in (
            (
                "SELECT tablename, indexname, indexdef FROM pg_indexes "
                "WHERE tablename LIKE 'settings_history%%' ORDER BY indexname"
            ),
            (
                "SELECT conrelid::regclass::text AS home, conname, pg_get_constraintdef(oid) AS said "
                "FROM pg_constraint WHERE conrelid::regclass::text LIKE 'settings_history%%' "
                "ORDER BY home, conname"
            ),
            (
                "SELECT relname, array(SELECT unnest(relacl)::text ORDER BY 1) AS granted, relowner "
                "FROM pg_class WHERE relname LIKE 'settings_history%%' AND relkind = 'r' "
                "ORDER BY relname"
            ),
            (
                "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
                "WHERE table_name LIKE 'settings_history%%' ORDER BY table_name, ordinal_position"
            ),
        )
    ]


def assert_whole(ledger: Ledger) -> None:
    ledger.horizon.reach([0])
    assert positions(ledger) == list(range(1, head(ledger) + 1))
    assert [checked.fault for checked in ledger.projections.check()] == [None, None]


def test_a_rebuilt_history_is_the_same(ledger: Ledger) -> None:
    """The same rows in tables with the same indexes, constraints and privileges."""
    site = ledger.create_site()
    for patch in PATCHES:
        site.update(patch, reason="why")
    before, changes = catalogue(ledger), site.history.changes()
    said: list[tuple[int, int]] = []
    rebuilt = ledger.projections.rebuild(HISTORY, lambda done, total: said.append((done, total)))
    assert rebuilt.events == head(ledger) == len(PATCHES) + 1
    assert said[-1] == (rebuilt.events, rebuilt.events)
    assert catalogue(ledger) == before
    assert site.history.changes() == changes
    site.update({"createInvoice": True})
    assert_whole(ledger)


def test_a_rebuild_goes_on_beside_writers_followers_and_readers(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost or doubled around the swap, and no read fails or sees less."""
    monkeypatch.setattr(rebuild, "PAGE", 7)
    sites = [ledger.create_site() for _ in range(4)]
    stop = threading.Event()

    def read() -> int:
        seen = reads = 0
        while not stop.is_set():
            now = len(sites[0].history.changes())
            assert now >= seen
            seen, reads = now, reads + 1
        return reads

    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(ledger.projections.follow, stop), pool.submit(read)]
        try:
            with writing(sites, 3) as wait:
                for _ in range(3):
                    enough = head(ledger) + 20
                    eventually(lambda enough=enough: head(ledger) >= enough)
                    assert ledger.projections.rebuild(HISTORY).events >= enough
                wait()
        finally:
            stop.set()
        assert jobs[1].result() > 0
        jobs[0].result()
    assert_whole(ledger)


def test_a_long_reader_is_waited_for(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that reads the old tables delays the swap and sees them to its end."""
    site = ledger.create_site()
    ledger.horizon.reach([0])
    turns: list[int] = []
    swapping = rebuild._replace

    def counted(*arguments: Any) -> None:
        turns.append(1)
        swapping(*arguments)

    monkeypatch.setattr(rebuild, "_replace", counted)
    with ThreadPoolExecutor(1) as pool:
        with ledger.database.connection() as connection:
            connection.execute("SELECT FROM settings_history LIMIT 1")
            job = pool.submit(ledger.projections.rebuild, HISTORY)
            eventually(lambda: len(turns) > 1)
            assert len(site.history.changes()) == 1
            assert connection.execute("SELECT position FROM settings_history").fetchall()
        assert job.result().events == 1
    assert_whole(ledger)


def test_a_rebuild_that_was_killed_is_in_nobodys_way(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables are removed by the next; the history is read on meanwhile."""
    monkeypatch.setattr(rebuild, "PAGE", 1)
    site = ledger.create_site()
    for patch in PATCHES:
        site.update(patch)
    events = len(PATCHES) + 1

    def die(done: int, total: int) -> None:
        # Others have begun the pages that follow.
        assert (done, total) == (1, events)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.projections.rebuild(HISTORY, die)
    assert len(site.history.changes()) == events
    assert ledger.projections.rebuild(HISTORY).events == events
    assert_whole(ledger)


def test_pages_are_taken_side_by_side_and_told_of_in_order(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever is done first, what was told of as done is done."""
    monkeypatch.setattr(rebuild, "PAGE", 1)
    monkeypatch.setattr(rebuild, "CONNECTIONS", 3)
    site = ledger.create_site()
    for patch in PATCHES:
        site.update(patch)
    events = len(PATCHES) + 1
    said: list[tuple[int, int]] = []
    ledger.projections.rebuild(HISTORY, lambda *so_far: said.append(so_far))
    assert said == [(done, events) for done in range(1, events + 1)]
    assert_whole(ledger)


def test_one_rebuilds_at_a_time(ledger: Ledger) -> None:
    """The second is told so."""
    ledger.create_site()
    refused: list[str] = []

    def again(done: int, total: int) -> None:
        with pytest.raises(ConfigError) as error:
            ledger.projections.rebuild(HISTORY)
        refused.append(str(error.value))

    ledger.projections.rebuild(HISTORY, again)
    assert refused == ["The projection is being rebuilt already; wait until that has ended."]


def test_only_an_owner_rebuilds(place: TestDatabase, ledger: Ledger) -> None:
    """The serving role never makes or drops tables, and the error says what to set."""
    with (
        Ledger.open(database_url=place.server_url) as serving,
        pytest.raises(ConfigError, match="LEDGER_MIGRATION_URL"),
    ):
        serving.projections.rebuild(HISTORY)
    with pytest.raises(NotFound, match="There is no projection deliveries"):
        ledger.projections.rebuild("deliveries")
    with pytest.raises(ConfigError, match="changes with the log itself"):
        ledger.projections.rebuild("current_settings")


@pytest.mark.parametrize(
    ("tampering", "fault"),
    [
        (
            (
                "UPDATE settings_history SET settings = jsonb_set(settings, '{createInvoice}', '1') "
                "WHERE position = 2"
            ),
            "partition 0, position 2: settings is not what the log gives",
        ),
        (
            (
                "UPDATE settings_history SET recorded_at = recorded_at - interval '1 s' "
                "WHERE position = 3"
            ),
            "partition 0, position 3: recorded_at is not what the log gives",
        ),
        (
            "DELETE FROM settings_history WHERE position = 2",
            "partition 0, position 2: there is no row",
        ),
        (
            (
                "INSERT INTO settings_history SELECT partition, 99, originator_id, 99, site_id, kind, "
                "recorded_at, event_id, actor_type, actor_ref, on_behalf_of_type, on_behalf_of_ref, "
                "reason_ref, origin, channel, credential, asserted, request_id, fields, changes, "
                "settings FROM settings_history WHERE position = 3"
            ),
            "partition 0, position 99: a row beyond the cursor",
        ),
        (
            "DELETE FROM settings_history_fields WHERE version = 2",
            "position 2: the mark of the field createInvoice is not what the log gives",
        ),
        (
            (
                "INSERT INTO settings_history_fields SELECT partition, originator_id, 'colour', "
                "version, position, recorded_at FROM settings_history WHERE position = 3"
            ),
            "position 3: the mark of the field colour is not what the log gives",
        ),
        (
            "UPDATE projection_cursors SET position = 7",
            "the cursor stands at 7, where the log ends at 3",
        ),
    ],
)
def test_a_check_names_the_first_difference(
    ledger: Ledger, owner: psycopg.Connection[Any], tampering: str, fault: str
) -> None:
    """Whatever was altered, taken away or added is found, and a rebuild mends it."""
    site = ledger.create_site()
    site.update({"createInvoice": True})
    site.update({"createInvoice": False})
    assert_whole(ledger)
    owner.execute(tampering.encode())
    current, history = ledger.projections.check()
    assert current.fault is None
    assert history.fault == fault
    ledger.projections.rebuild(HISTORY)
    assert_whole(ledger)
