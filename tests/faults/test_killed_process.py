"""A process of writers that is killed in the midst of its work, beside one that goes on."""

from __future__ import annotations

import pytest

from faults.evidence import assert_answers_hold, examine
from faults.opening import opened
from faults.processes import patchers
from faults.waiting import eventually

SITES, CALLERS, CHANGES = 20, 16, 500


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_a_killed_process_acknowledged_is_recorded(fresh_database, tmp_path):
    """Everything acknowledged before kill -9 is in the log once, and the other process goes on."""
    with opened(fresh_database().server_url) as ledger:
        url = ledger.database_url
        sites = [ledger.create_site().site_id for _ in range(SITES)]
        with patchers(url, tmp_path, sites, callers=CALLERS, changes=CHANGES) as processes:
            doomed, other = processes
            eventually(lambda: doomed.lines() >= CALLERS * CHANGES // 4, within=120)
            doomed.kill()
            at_the_kill = other.lines()
            survived = other.finish()
            cut_short = doomed.journal()
        evidence = examine(url)
        assert not cut_short.finished
        assert 0 < len(cut_short.acknowledged) < CALLERS * CHANGES
        assert at_the_kill < CALLERS * CHANGES
        assert survived.acknowledged.keys() == other.expected
        for journal in (cut_short, survived):
            assert_answers_hold(evidence, journal)
        assert all(count == 1 for count in evidence.tags.values())
        # Beyond what it acknowledged, a caller had at most one change under way.
        unacknowledged = evidence.tags.keys() - cut_short.acknowledged.keys() - other.expected
        assert unacknowledged <= doomed.expected
        assert len(unacknowledged) <= CALLERS
        assert ledger.verify().fault is None
