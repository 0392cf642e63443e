"""Many writers at once: two processes of sixteen callers on twenty sites, and two readers."""

from __future__ import annotations

import pytest

from faults.evidence import assert_answers_hold, examine
from faults.opening import opened
from faults.processes import patchers
from faults.readers import cursor_reader, subscriber

SITES, CALLERS, CHANGES = 20, 16, 500


@pytest.fixture
def ledger(fresh_database):
    with opened(fresh_database().server_url) as ledger:
        yield ledger


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_change_is_lost_repeated_or_missed(ledger, tmp_path):
    """16,000 acknowledged changes are in the log once each, and both readers saw each once."""
    url = ledger.database_url
    sites = [ledger.create_site().site_id for _ in range(SITES)]
    with (
        cursor_reader(ledger.database) as by_cursor,
        subscriber(ledger.application(0).recorder) as by_subscription,
        patchers(url, tmp_path, sites, callers=CALLERS, changes=CHANGES) as processes,
    ):
        journals = [process.finish() for process in processes]
        evidence = examine(url)
        followed = [reader.finish(len(evidence.events)) for reader in (by_cursor, by_subscription)]
    for process, journal in zip(processes, journals, strict=True):
        assert journal.acknowledged.keys() == process.expected
        assert_answers_hold(evidence, journal)
    assert len(evidence.events) == SITES + 2 * CALLERS * CHANGES
    recorded = [(event.position, event.state) for event in evidence.events]
    for seen in followed:
        assert seen == recorded
    report = ledger.verify()
    assert (report.fault, report.events, report.sites) == (None, len(evidence.events), SITES)
