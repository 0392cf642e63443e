"""append_processes: four processes of callers, beside one process with as many, and pgbench."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from tests.bench import pgbench
from tests.bench.append import SITES, create_sites, owner_url, updating
from tests.bench.bench import Bench
from tests.bench.measure import Baseline, Comparison, contest
from tests.bench.pgbench import PgBench
from tests.bench.worker import Worker, rate

PROCESSES, CALLERS = 4, 16
GOAL = 1.0
"""Against one process, on one partition; more partitions are measured to choose the default by."""


def run(bench: Bench) -> Iterator[Comparison]:
    """Compare on one partition and on eight."""
    processes, callers = (2, 1) if bench.smoke else (PROCESSES, CALLERS)
    for partitions in (1, 8):
        yield from _compare(bench, partitions, processes, callers)


def _compare(bench: Bench, partitions: int, processes: int, callers: int) -> list[Comparison]:
    with bench.ledger(partitions=partitions) as ledger, ExitStack() as held:
        inserts = PgBench(owner_url(ledger), bench.directory)
        site_ids = create_sites(ledger, 4 if bench.smoke else SITES)
        # Each process has the sites in an order of its own, as requests of a site come to any of
        # several servers: in the same order all would want the same site at the same time.
        single, *several = [
            held.enter_context(updating(ledger, _shuffled(site_ids, number), bench.directory))
            for number in range(processes + 1)
        ]
        total = processes * callers
        goal = GOAL if partitions == 1 else None
        return contest(
            "append_processes",
            f"{processes} × {callers} callers, {partitions} partition{'s' * (partitions > 1)}",
            ours=lambda: together(several, callers, bench.seconds),
            baselines=[
                Baseline(
                    f"one process, {total} callers",
                    lambda: single.rate({"callers": total, "seconds": bench.seconds}),
                    goal,
                ),
                Baseline(pgbench.NAME, lambda: inserts.rate(total, bench.seconds)),
            ],
            rounds=bench.rounds,
            peak=lambda: sum(worker.peak() or 0 for worker in several),
        )


def _shuffled(site_ids: Sequence[str], seed: int) -> list[str]:
    shuffled = list(site_ids)
    random.Random(seed).shuffle(shuffled)
    return shuffled


def together(workers: Sequence[Worker], callers: int, seconds: float) -> float:
    """Updates per second of programs that work at the same time."""
    for worker in workers:
        worker.tell({"callers": callers, "seconds": seconds})
    return sum(rate(worker.hear()) for worker in workers)
