"""procrastinate and httpx, from the side of who measures them: see ``procrastination``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.bench import Bench
from tests.bench.delivery import percentile
from tests.bench.venvs import installed
from tests.bench.worker import Worker

NAME = "procrastinate + httpx"
REQUIREMENTS = (
    "procrastinate>=3.10,<4",
    "httpx>=0.28,<1",
    "pyjwt[crypto]>=2.15,<3",
    "psycopg[binary,pool]>=3.2,<4",
)


@dataclass
class Jobs:
    """The program that delivers by jobs; ``wal`` and ``p99`` are figures of its runs."""

    worker: Worker
    wal: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)

    def drain(self, count: int) -> None:
        """Put so many jobs into the database, and do them."""
        self.worker.ask({"defer": count, "drain": True})

    def p50(self, per_second: float, count: int) -> float:
        """Milliseconds from a job's commit to its 200, at this pace."""
        order = {"pace": per_second, "seconds": count / per_second}
        took = [one * 1000 for one in self.worker.ask(order)["latencies"]]
        self.p99.append(percentile(took, 99))
        return percentile(took, 50)


@contextmanager
def started(bench: Bench, receiver_url: str) -> Iterator[Jobs | None]:
    """The program on a database of its own, of the same server; None where it cannot be had."""
    programs = None if bench.smoke else installed("procrastinate", REQUIREMENTS)
    if programs is None:
        yield None
        return
    script = Path(__file__).with_name("procrastination.py")
    with bench.server.blank_database() as url:
        command: list[str | Path] = [programs / "python", script, url, receiver_url]
        with Worker(command) as worker:
            yield Jobs(worker)
