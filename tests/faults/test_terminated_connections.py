"""Writers whose connections are cut every 200 ms."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import psycopg
import pytest

from faults.evidence import assert_answers_hold, examine
from faults.locks import terminate_writers
from faults.opening import opened
from faults.processes import patchers

SITES, CALLERS, CHANGES = 20, 16, 500
EVERY = 0.2


@contextmanager
def terminating(url: str):
    """End every writer's connection, again and again; gives the list of how many each time."""
    over, ended = threading.Event(), []

    def run() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not over.wait(EVERY):
                ended.append(terminate_writers(connection))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ended
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_terminated_connections_neither_lose_nor_repeat_a_change(fresh_database, tmp_path):
    """What is acknowledged is in the log once, what is unknown at most once, nothing else is."""
    with opened(fresh_database().server_url) as ledger:
        url = ledger.database_url
        sites = [ledger.create_site().site_id for _ in range(SITES)]
        with (
            terminating(url) as ended,
            patchers(url, tmp_path, sites, callers=CALLERS, changes=CHANGES) as processes,
        ):
            journals = [process.finish() for process in processes]
        assert sum(ended) > 0
        evidence = examine(url)
        acknowledged, unknown = set(), set()
        for process, journal in zip(processes, journals, strict=True):
            assert_answers_hold(evidence, journal)
            acknowledged |= journal.acknowledged.keys()
            unknown |= journal.unknown
            answered = journal.acknowledged.keys() | journal.unknown | journal.unavailable
            assert answered == process.expected
        assert acknowledged
        recorded = evidence.tags.keys()
        assert all(count == 1 for count in evidence.tags.values())
        assert acknowledged <= recorded <= acknowledged | unknown
        assert len(evidence.events) == SITES + len(recorded)
        assert ledger.verify().fault is None
