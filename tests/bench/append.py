"""append: ``update()`` of the library (read, decide, durable append, current settings) beside a
single-row insert by pgbench, on the same server, fsync on."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ledger import Ledger
from ledger.assembly import SiteHandle
from ledger.embedded import binaries
from tests.bench.measure import Comparison, compare

SITES = 200
GOALS = {1: 0.30, 8: 0.30, 16: 0.40, 64: 0.60, 256: 0.80}
# About the bytes of one SettingsChanged, so that both write the same amount.
_INSERT = "INSERT INTO bench_rows (payload) VALUES (repeat('x', 700));\n"


def run(
    directory: Path, *, callers: tuple[int, ...], seconds: float, rounds: int
) -> Iterator[Comparison]:
    """Compare at each number of callers."""
    with Ledger.open(data_dir=directory) as ledger:
        sites = [ledger.create_site() for _ in range(SITES)]
        baseline = PgBench(ledger.database_url.replace("ledger_server", "ledger_owner"), directory)
        for count in callers:
            yield compare(
                "append",
                f"{count} caller{'s' * (count > 1)}",
                "pgbench single-row insert",
                ours=lambda count=count: update_rate(sites, count, seconds),
                theirs=lambda count=count: baseline.rate(count, seconds),
                goal=GOALS.get(count, 0.3),
                rounds=rounds,
            )


def update_rate(sites: list[SiteHandle], callers: int, seconds: float) -> float:
    """Acknowledged updates per second by ``callers`` threads, each with sites of its own turn."""
    done = [0] * callers
    start = threading.Barrier(callers + 1)
    end = threading.Event()

    def call(caller: int) -> None:
        start.wait()
        turn = caller
        while not end.is_set():
            sites[turn % len(sites)].update({"createInvoice": turn % 2 == 0})
            turn += callers
            done[caller] += 1

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.monotonic()
    end.wait(seconds)
    end.set()
    for thread in threads:
        thread.join()
    return sum(done) / (time.monotonic() - began)


class PgBench:
    """PostgreSQL's own benchmark program, inserting one row per transaction."""

    def __init__(self, owner_url: str, directory: Path) -> None:
        self._url = owner_url
        self._script = directory / "insert.sql"
        self._script.write_text(_INSERT)
        self._run("psql", "-qc", "DROP TABLE IF EXISTS bench_rows", owner_url)
        self._run(
            "psql",
            "-qc",
            "CREATE TABLE bench_rows (id bigserial PRIMARY KEY, payload text)",
            owner_url,
        )

    def rate(self, clients: int, seconds: float) -> float:
        """Inserts per second by ``clients`` connections."""
        said = self._run(
            "pgbench",
            "--no-vacuum",
            "--protocol=prepared",
            f"--file={self._script}",
            f"--client={clients}",
            f"--jobs={min(clients, os.cpu_count() or 1)}",
            f"--time={max(1, round(seconds))}",
            self._url,
        )
        found = re.search(r"tps = ([\d.]+)", said)
        if found is None:
            message = f"pgbench said no rate: {said}"
            raise RuntimeError(message)
        return float(found[1])

    def _run(self, program: str, *arguments: str) -> str:
        environment = os.environ | {"PGOPTIONS": "-c client_min_messages=warning"}
        return subprocess.run(
            [binaries() / program, *arguments],
            check=True,
            capture_output=True,
            text=True,
            env=environment,
        ).stdout
