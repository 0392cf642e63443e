"""Reads of current settings share queries, and nobody gets another's answer or an old one."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from ledger.aggregate import SettingsRecord
from ledger.errors import DatabaseUnavailable, Unavailable
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.web import patience, reads
from ledger.web.reads import CurrentReads

NOW = datetime(2024, 7, 4, tzinfo=UTC)
SITES = [uuid4() for _ in range(5)]


class Counting:
    """A ledger whose settings are at a version that a test sets; it notes each query."""

    def __init__(self):
        self.version = 1
        self.queries = []
        self.begun = threading.Event()
        self.going_on = threading.Event()
        self.going_on.set()

    def get(self, site_id, kind):
        return self.get_all([site_id], kind)[site_id]

    def get_all(self, site_ids, kind):
        self.queries.append(set(site_ids))
        version = self.version
        self.begun.set()
        if not self.going_on.wait(30):
            raise TimeoutError
        return {
            site_id: SettingsRecord(
                site_id, kind.fqdn, version, 0, 1, b"", kind.defaults(), NOW, NOW
            )
            for site_id in site_ids
        }


@pytest.fixture
def ledger():
    """Counts, and lets go of its last query at the end."""
    counting = Counting()
    yield counting
    counting.going_on.set()


async def asked(ledger, reading, *site_ids):
    """Reads that wait while the query under way is held up."""
    tasks = [asyncio.create_task(reading.get(site_id)) for site_id in site_ids]
    await asyncio.to_thread(ledger.begun.wait, 30)
    return tasks


async def test_reads_that_wait_share_one_query(ledger, monkeypatch):
    """One query is under way, all that comes meanwhile is the next; each gets its own site."""
    monkeypatch.setattr(reads, "SLOW", 30)
    reading = CurrentReads(ledger, ORDERS_SETTINGS)
    ledger.going_on.clear()
    first = await asked(ledger, reading, SITES[0])
    others = await asked(ledger, reading, *SITES, *SITES)
    ledger.going_on.set()
    records = await asyncio.gather(*first, *others)
    assert [record.site_id for record in records] == [SITES[0], *SITES, *SITES]
    assert ledger.queries == [{SITES[0]}, set(SITES)]


async def test_a_read_sees_what_was_acknowledged_before_it(ledger, monkeypatch):
    """It is not answered by the query that was under way when it came."""
    monkeypatch.setattr(reads, "SLOW", 30)
    reading = CurrentReads(ledger, ORDERS_SETTINGS)
    ledger.going_on.clear()
    [before] = await asked(ledger, reading, SITES[0])
    ledger.version = 2
    [after] = await asked(ledger, reading, SITES[0])
    ledger.going_on.set()
    assert [(await before).version, (await after).version] == [1, 2]


async def test_a_slow_query_holds_up_nobody(ledger, monkeypatch):
    """Reads that came since are answered by a query of their own."""
    monkeypatch.setattr(reads, "SLOW", 0.001)
    reading = CurrentReads(ledger, ORDERS_SETTINGS)
    ledger.going_on.clear()
    [slow] = await asked(ledger, reading, SITES[0])
    held = ledger.going_on
    ledger.going_on = threading.Event()
    ledger.going_on.set()
    assert (await reading.get(SITES[1])).site_id == SITES[1]
    assert not slow.done()
    held.set()
    assert (await slow).site_id == SITES[0]


async def test_whoever_leaves_spoils_nothing(ledger, monkeypatch):
    """A read that was called off takes no other with it."""
    monkeypatch.setattr(reads, "SLOW", 30)
    reading = CurrentReads(ledger, ORDERS_SETTINGS)
    ledger.going_on.clear()
    left, stayed = await asked(ledger, reading, SITES[0], SITES[1])
    left.cancel()
    ledger.going_on.set()
    assert (await stayed).site_id == SITES[1]
    assert (await reading.get(SITES[2])).site_id == SITES[2]


async def test_a_failure_is_told_to_all_who_wait(ledger, monkeypatch):
    """And the next read asks anew."""
    reading = CurrentReads(ledger, ORDERS_SETTINGS)
    with monkeypatch.context() as broken:
        broken.setattr(ledger, "get_all", _fail)
        found = await asyncio.gather(*map(reading.get, SITES), return_exceptions=True)
    assert [type(error) for error in found] == [DatabaseUnavailable] * len(SITES)
    assert (await reading.get(SITES[0])).version == 1


async def test_a_database_that_hangs_is_answered_for(ledger, monkeypatch):
    """Each read is refused in time, also those that waited for the query before."""
    monkeypatch.setattr(patience, "READ", 0.05)
    monkeypatch.setattr(reads, "SLOW", 0.01)
    reading = CurrentReads(ledger, ORDERS_SETTINGS)
    ledger.going_on.clear()
    tasks = await asked(ledger, reading, *SITES)
    found = await asyncio.gather(*tasks, reading.get(SITES[0]), return_exceptions=True)
    assert {type(error) for error in found} == {Unavailable}


def _fail(*_):
    raise DatabaseUnavailable("gone")
