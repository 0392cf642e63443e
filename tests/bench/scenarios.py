"""The scenarios by name, in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench import (
    append,
    append_processes,
    history_length,
    history_scale,
    http_routes,
    mixed,
    obstacles,
    publisher,
    rebuild,
    starting,
)
from tests.bench.bench import Bench, Scenario
from tests.bench.measure import Comparison


def _history_scale(bench: Bench) -> Iterator[Comparison]:
    return history_scale.run(
        bench.directory,
        changes=bench.changes,
        sites=bench.sites,
        seconds=bench.seconds,
        rounds=bench.rounds,
        small=min(history_scale.SMALL, bench.changes),
    )


def _rebuild(bench: Bench) -> Iterator[Comparison]:
    return rebuild.run(
        bench.directory, changes=bench.changes, sites=bench.sites, rounds=bench.rounds
    )


SCENARIOS: dict[str, Scenario] = {
    "append": append.run,
    "hot_site": append.run_hot_site,
    "append_processes": append_processes.run,
    "history_length": history_length.run,
    "http_get": http_routes.run_get,
    "http_patch": http_routes.run_patch,
    "mixed": mixed.run,
    "publisher": publisher.run,
    "start": starting.run,
    "heads": obstacles.run_heads,
    "slow_fsync": obstacles.run_slow_fsync,
    "history_scale": _history_scale,
    "rebuild": _rebuild,
}
