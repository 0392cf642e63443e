"""mixed: nine reads to one change over HTTP, on one site and on up to ten thousand."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.bench.bench import Bench
from tests.bench.http_routes import CONNECTIONS
from tests.bench.measure import Baseline, Comparison, contest
from tests.bench.servers import ours

SITES = (1, 10, 100, 1000, 10_000)
READS = 0.9
GOAL = 1 / 1.2
"""The slowest as a part of the fastest: flat within 1.2."""


def run(bench: Bench) -> Iterator[Comparison]:
    """Hold each number of sites against the fastest of them."""
    sizes, connections = ((1, 3), 2) if bench.smoke else (SITES, CONNECTIONS)
    with (
        bench.ledger() as ledger,
        ours(ledger, max(sizes)) as served,
        served.load(bench.directory, reads=READS) as load,
    ):
        # The first change of an app on a site costs more, and comes once.
        load.ask({"connections": connections, "once": True})
        order = {"connections": connections, "seconds": bench.seconds}
        runs = [
            Baseline(_case(size), partial(load.rate, order | {"sites": size})) for size in sizes
        ]
        first, *others = runs
        rows = contest(
            "mixed",
            f"90 % GET, 10 % PATCH, {connections} connections",
            ours=first.run,
            baselines=others,
            rounds=bench.rounds,
            peak=served.peak,
        )
    rates = {first.name: rows[0].ours} | {row.baseline: row.theirs for row in rows}
    for case, rate in rates.items():
        yield Comparison(
            "mixed",
            f"90 % GET, {case}",
            "the fastest of these",
            ours=rate,
            theirs=max(rates.values()),
            spread=None,
            goal=GOAL,
            memory=rows[0].memory,
        )


def _case(sites: int) -> str:
    return f"{sites:,} site{'s' * (sites > 1)}"
