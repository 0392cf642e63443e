"""append: ``update()`` of the library (read, decide, durable append, current settings) beside a
single-row insert by pgbench, and beside the eventsourcing library as it comes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from uuid import uuid4

from ledger import Ledger
from tests.bench import pgbench, stock
from tests.bench.bench import Bench, environment
from tests.bench.measure import Baseline, Comparison, contest
from tests.bench.pgbench import PgBench
from tests.bench.worker import Worker

SITES = 512
CREATORS = 16
# Callers → the goal as a part of pgbench, and of the library as it comes.
GOALS = {1: (0.30, 2), 8: (0.30, 5), 16: (0.40, 8), 64: (0.60, 10), 256: (0.80, 10)}
HOT_GOALS = {8: 0.25, 64: 0.50}


def run(bench: Bench) -> Iterator[Comparison]:
    """Compare at each number of callers, on sites enough for all."""
    counts = [1, 2] if bench.smoke else list(GOALS)
    with bench.ledger() as ledger, ExitStack() as held:
        inserts = PgBench(owner_url(ledger), bench.directory)
        site_ids = create_sites(ledger, 4 if bench.smoke else SITES)
        ours = held.enter_context(updating(ledger, site_ids, bench.directory))
        others = held.enter_context(_stock(ledger, max(counts)))
        for count in counts:
            order = {"callers": count, "seconds": bench.seconds}
            of_pgbench, of_stock = GOALS.get(count, (None, None))
            yield from contest(
                "append",
                f"{count} caller{'s' * (count > 1)}",
                ours=partial(ours.rate, order),
                baselines=[
                    Baseline(pgbench.NAME, partial(inserts.rate, count, bench.seconds), of_pgbench),
                    Baseline(stock.NAME, partial(others.rate, order), of_stock),
                ],
                rounds=bench.rounds,
                peak=ours.peak,
            )


def run_hot_site(bench: Bench) -> Iterator[Comparison]:
    """The same with all callers on one site."""
    with bench.ledger() as ledger:
        inserts = PgBench(owner_url(ledger), bench.directory)
        with updating(ledger, create_sites(ledger, 1), bench.directory) as ours:
            for count in [2] if bench.smoke else HOT_GOALS:
                order = {"callers": count, "seconds": bench.seconds}
                goal = HOT_GOALS.get(count)
                yield from contest(
                    "hot_site",
                    f"{count} callers on one site",
                    ours=partial(ours.rate, order),
                    baselines=[
                        Baseline(pgbench.NAME, partial(inserts.rate, count, bench.seconds), goal),
                    ],
                    rounds=bench.rounds,
                    peak=ours.peak,
                )


def owner_url(ledger: Ledger) -> str:
    """The ledger's database as its owner."""
    assert ledger.config.owner_url is not None
    return ledger.config.owner_url


def create_sites(ledger: Ledger, count: int) -> list[str]:
    """New sites, by many callers at once since each waits for the disk; their ids."""
    site_ids = [str(uuid4()) for _ in range(count)]
    with ThreadPoolExecutor(CREATORS) as creators:
        for _ in creators.map(ledger.create_site, site_ids):
            pass
    return site_ids


def updating(ledger: Ledger, site_ids: Sequence[str], directory: Path) -> Worker:
    """``tests.bench.updating`` on these sites; the caller closes it."""
    file = directory / f"sites-{uuid4().hex}.json"
    file.write_text(json.dumps(list(site_ids)))
    return Worker.start("tests.bench.updating", file, env=environment(ledger))


def _stock(ledger: Ledger, callers: int) -> Worker:
    where = stock.environment(owner_url(ledger), callers)
    return Worker.start("tests.bench.stock", env=dict(os.environ) | where)
