"""A ledger with subscriptions, a publisher in a process of its own, and a receiver in another."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from ledger import Identity, Ledger
from ledger.identity import Provenance, Via
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.publisher import DeliveryOperator
from tests.bench.bench import CHECKOUT, Bench, environment
from tests.bench.worker import Worker

PATIENCE = 300.0
"""Seconds after which deliveries that do not come fail the run."""

BY = Provenance(Identity.wix_user("bench"), Via("library"))
_LOOPBACK = "127.0.0.0/8"


@dataclass(frozen=True)
class Arrival:
    """One delivery: of which subscription's path, of which event, and when on the monotonic clock."""

    path: str
    event_id: str
    at: float


@dataclass(frozen=True)
class Delivery:
    """What a run needs: sites to change, subscriptions to serve, and what arrives."""

    ledger: Ledger
    receiver: Worker
    url: str
    app_id: UUID
    sites: Sequence[UUID]

    @classmethod
    @contextmanager
    def made(cls, bench: Bench, sites: int) -> Iterator[Delivery]:
        """One app, installed on so many sites, without subscriptions."""
        with (
            bench.ledger(allowed_networks=_LOOPBACK) as ledger,
            Worker.start("tests.bench.receiving") as receiver,
        ):
            app = ledger.directory.create_app("bench", ["SCOPE.DC-ECOM-MEGA.MANAGE-ECOM"])
            ids = [ledger.create_site().site_id for _ in range(sites)]
            for site_id in ids:
                ledger.directory.install(app.app_id, site_id)
            url = f"http://127.0.0.1:{receiver.ask({})['port']}"
            yield cls(ledger, receiver, url, app.app_id, ids)

    @property
    def operator(self) -> DeliveryOperator:
        """Pauses, and puts cursors somewhere else."""
        return DeliveryOperator(self.ledger.database)

    def subscribe(self, path: str) -> UUID:
        """A subscription that is received at ``path``."""
        return self.ledger.directory.subscribe(self.app_id, self.url + path).subscription_id

    def change(self, count: int) -> int:
        """Record so many changes over all sites; the position before the first of them."""
        before = self.head()
        waiting = [
            self.ledger.submit(
                self.sites[number % len(self.sites)],
                ORDERS_SETTINGS,
                {"createInvoice": number // len(self.sites) % 2 == 0},
                BY,
            )
            for number in range(count)
        ]
        for one in waiting:
            one.result()
        return before

    def head(self) -> int:
        """The log's last position."""
        with self.ledger.database.connection() as connection:
            row = connection.execute("SELECT coalesce(max(position), 0) AS head FROM events")
            return int(row.fetchone()["head"])  # type: ignore[index]

    def pace(self, per_second: float, count: int) -> dict[str, float]:
        """Record changes at this pace: each event's id, and when it was acknowledged."""
        committed: dict[int, float] = {}
        began = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, began + number / per_second - time.monotonic()))
            site = self.ledger.site(self.sites[number % len(self.sites)])
            record = site.update({"createInvoice": not site.settings()["createInvoice"]})
            committed[record.position] = time.monotonic()
        with self.ledger.database.connection() as connection:
            rows = connection.execute(
                "SELECT position, convert_from(state, 'UTF8')::jsonb ->> 'event_id' AS event_id "
                "FROM events WHERE position = ANY(%s)",
                (list(committed),),
            ).fetchall()
        return {row["event_id"]: committed[row["position"]] for row in rows}

    def forget(self) -> None:
        """Forget what arrived."""
        self.receiver.ask({"forget": True})

    def arrivals(self, count: int) -> list[Arrival]:
        """What arrived, once it is so much. Raises RuntimeError where it does not come."""
        answer = self.receiver.ask({"count": count, "within": PATIENCE})
        found = [Arrival(*one) for one in answer["arrivals"]]
        if len(found) < count:
            message = f"{len(found)} of {count} deliveries arrived"
            raise RuntimeError(message)
        return found

    @contextmanager
    def publisher(self) -> Iterator[subprocess.Popen[bytes]]:
        """``settings-ledger publish``, until the block ends."""
        process = subprocess.Popen(
            [sys.executable, "-m", "ledger", "publish"],
            cwd=CHECKOUT,
            env=environment(self.ledger, allowed_networks=_LOOPBACK),
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()

    @contextmanager
    def warm_publisher(self, subscriptions: int) -> Iterator[subprocess.Popen[bytes]]:
        """The same, once each of so many subscriptions has got an event, and that is forgotten."""
        self.forget()
        with self.publisher() as process:
            self.change(1)
            self.arrivals(subscriptions)
            self.forget()
            yield process

    def wal(self) -> int:
        """Bytes of WAL written so far."""
        with self.ledger.database.connection() as connection:
            row = connection.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn AS bytes")
            return int(row.fetchone()["bytes"])  # type: ignore[index]


def rate(arrivals: Sequence[Arrival]) -> float:
    """Deliveries per second from the first arrival to the last."""
    times = [one.at for one in arrivals]
    return (len(times) - 1) / (max(times) - min(times))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent do not exceed."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


def processor_seconds(process: int) -> float:
    """The processor time of a process's threads so far, as Linux counts it."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
