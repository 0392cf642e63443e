"""history_length: update and get on a site with a long history, beside sites with a short one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ledger import Ledger
from tests.bench import generator
from tests.bench.append import CREATORS, create_sites, updating
from tests.bench.bench import Bench
from tests.bench.measure import Baseline, Comparison, contest
from tests.bench.worker import Worker

LONG, SHORT = 100_000, 10
SHORT_SITES = 1000
"""So many that none of them grows long while it is measured."""
GOAL = 1.1


def run(bench: Bench) -> Iterator[Comparison]:
    """Compare the time of one call, by one caller."""
    long, short_sites = (200, 2) if bench.smoke else (LONG, SHORT_SITES)
    with bench.ledger() as ledger:
        # Nine changes out of ten are on the only site that is not the hot one.
        loaded = generator.load(ledger, long * 10 // 9 + 10, 2)
        assert ledger.site(loaded.plain_site).record().version > long
        short = _changed_sites(ledger, short_sites)
        with updating(ledger, [str(loaded.plain_site), *short], bench.directory) as worker:
            for what in ("update", "get"):
                order: dict[str, object] = {"what": what, "callers": 1, "seconds": bench.seconds}
                same = partial(_milliseconds, worker, {**order, "first": 1})
                yield from contest(
                    "history_length",
                    f"{what} after {long:,} changes, ms",
                    ours=partial(_milliseconds, worker, {**order, "count": 1}),
                    baselines=[Baseline(f"the same after {SHORT} changes", same, GOAL)],
                    rounds=bench.rounds,
                    unit=" ms",
                    smaller_is_better=True,
                    peak=worker.peak,
                )


def _changed_sites(ledger: Ledger, count: int) -> list[str]:
    site_ids = create_sites(ledger, count)

    def change(site_id: str) -> None:
        site = ledger.site(site_id)
        for turn in range(SHORT - 1):
            site.update({"createInvoice": turn % 2 == 0})

    with ThreadPoolExecutor(CREATORS) as creators:
        list(creators.map(change, site_ids))
    return site_ids


def _milliseconds(worker: Worker, order: dict[str, object]) -> float:
    """The mean time of a call."""
    return 1000 / worker.rate(order)
