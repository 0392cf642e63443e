"""http_get, http_patch: our API over 32 connections, beside a route that was written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from tests.bench import kinto
from tests.bench.bench import Bench
from tests.bench.measure import Baseline, Comparison, contest
from tests.bench.servers import BARE, Served, by_hand, ours

CONNECTIONS = 32
SITES = 128
GOAL = 0.7
GOAL_OF_KINTO = 15


def run_get(bench: Bench) -> Iterator[Comparison]:
    """Reads."""
    return _run(bench, "http_get", "GET", reads=1.0)


def run_patch(bench: Bench) -> Iterator[Comparison]:
    """Changes; beside Kinto with its history plugin as well, where that can be installed."""
    return _run(bench, "http_patch", "PATCH", reads=0.0)


def _run(bench: Bench, scenario: str, method: str, *, reads: float) -> Iterator[Comparison]:
    sites, connections = (2, 2) if bench.smoke else (SITES, CONNECTIONS)
    with bench.ledger() as ledger, ExitStack() as held:
        order = {"connections": connections, "seconds": bench.seconds}

        def loaded(served: Served) -> partial[float]:
            load = held.enter_context(served.load(bench.directory, reads=reads))
            load.ask({"connections": connections, "once": True})
            return partial(load.rate, order)

        mine = held.enter_context(ours(ledger, sites))
        baselines = [Baseline(BARE, loaded(held.enter_context(by_hand(ledger, sites))), GOAL)]
        if not reads and not bench.smoke:
            other = held.enter_context(kinto.served(bench, sites))
            if other is not None:
                baselines.append(Baseline(kinto.NAME, loaded(other), GOAL_OF_KINTO))
        yield from contest(
            scenario,
            f"{method}, {connections} connections",
            ours=loaded(mine),
            baselines=baselines,
            rounds=bench.rounds,
            peak=mine.peak,
        )
