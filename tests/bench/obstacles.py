"""heads, slow_fsync: appends where the server has a hard time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial

import psycopg
from psycopg import IsolationLevel

from tests.bench import pgbench
from tests.bench.append import SITES, create_sites, owner_url, updating
from tests.bench.bench import Bench
from tests.bench.measure import Baseline, Comparison, contest
from tests.bench.pgbench import PgBench
from tests.bench.worker import Worker

SNAPSHOT_AGE = 60.0
"""Seconds that an old snapshot was held open when the rate is taken."""
SNAPSHOT_CALLERS = 16
SNAPSHOT_GOAL = 0.8

FLUSH = 4000
"""Microseconds that every flush takes longer: what disks across a network look like."""
FLUSH_GOALS = {1: None, 64: 1.0}


def run_heads(bench: Bench) -> Iterator[Comparison]:
    """Updates while somebody's old snapshot keeps every dead row, beside the same without."""
    age, callers, sites = (0.1, 2, 2) if bench.smoke else (SNAPSHOT_AGE, SNAPSHOT_CALLERS, SITES)
    with bench.ledger() as ledger:
        site_ids = create_sites(ledger, sites)
        with updating(ledger, site_ids, bench.directory) as worker:
            order = {"callers": callers, "seconds": bench.seconds}
            yield from contest(
                "heads",
                f"{callers} callers, a snapshot of {age:.0f} s elsewhere",
                ours=partial(_under_snapshot, worker, order, owner_url(ledger), age),
                baselines=[
                    Baseline("the same without", partial(worker.rate, order), SNAPSHOT_GOAL)
                ],
                rounds=bench.rounds,
                warm_up=False,
                peak=worker.peak,
            )


def _under_snapshot(worker: Worker, order: dict[str, float], url: str, age: float) -> float:
    """The rate in the last seconds of a snapshot's life, all of which were as busy."""
    with closing(psycopg.connect(url)) as other:
        other.isolation_level = IsolationLevel.REPEATABLE_READ
        other.execute("SELECT count(*) FROM current_settings")
        worker.ask(order | {"seconds": max(0.0, age - order["seconds"])})
        rate = worker.rate(order)
    with closing(psycopg.connect(url, autocommit=True)) as owner:
        # What the snapshot left behind must not burden the run without it.
        owner.execute("VACUUM current_settings, events")
    return rate


def run_slow_fsync(bench: Bench) -> Iterator[Comparison]:
    """Updates and inserts where every flush to disk takes as long as in a cloud."""
    with bench.ledger() as ledger:
        inserts = PgBench(owner_url(ledger), bench.directory)
        site_ids = create_sites(ledger, 4 if bench.smoke else SITES)
        options = {"commit_delay": FLUSH, "commit_siblings": 0}
        for name, value in options.items():
            bench.server.configure(name, value)
        try:
            with updating(ledger, site_ids, bench.directory) as worker:
                for callers, goal in ({2: None} if bench.smoke else FLUSH_GOALS).items():
                    order = {"callers": callers, "seconds": bench.seconds}
                    insert = partial(inserts.rate, callers, bench.seconds)
                    yield from contest(
                        "slow_fsync",
                        f"{callers} caller{'s' * (callers > 1)}, {FLUSH / 1000:.0f} ms a flush",
                        ours=partial(worker.rate, order),
                        baselines=[Baseline(pgbench.NAME, insert, goal)],
                        rounds=bench.rounds,
                        peak=worker.peak,
                    )
        finally:
            for name in options:
                bench.server.configure(name, None)
