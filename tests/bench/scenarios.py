"""The scenarios by name, in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench import append, append_processes, history_scale, http_routes, rebuild
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
    "http_get": http_routes.run_get,
    "http_patch": http_routes.run_patch,
    "history_scale": _history_scale,
    "rebuild": _rebuild,
}
