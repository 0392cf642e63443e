"""What Prometheus may ask: this process's attempts, and how the whole publishing goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ledger.database import Database
from ledger.publisher.status import FeedStatus, Status, publisher_status

_PROCESS = CollectorRegistry()

ATTEMPTS = Counter(
    "ledger_delivery_attempts",
    "Attempts of this process: received, refused (another status), failed (no answer).",
    ["outcome"],
    registry=_PROCESS,
)
LATENCY = Histogram(
    "ledger_delivery_seconds",
    "How long attempts of this process took.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 1.25, 2.5, 5, 10),
    registry=_PROCESS,
)
FENCED = Counter(
    "ledger_delivery_fenced_writes",
    "Writes of progress that were refused because another process had taken the feed over.",
    registry=_PROCESS,
)


_FAMILIES: tuple[tuple[str, str, Callable[[FeedStatus], float]], ...] = (
    ("ledger_delivery_lag_events", "Positions not yet done with.", lambda f: f.lag),
    ("ledger_delivery_lag_seconds", "Age of the first of them.", lambda f: f.seconds),
    ("ledger_delivery_lanes", "Sites that wait to be tried again.", lambda f: f.lanes),
    (
        "ledger_delivery_breaker_open",
        "1 while the endpoint is left alone.",
        lambda f: _is(f.breaker),
    ),
    ("ledger_delivery_paused", "1 while paused.", lambda f: _is(f.paused)),
    ("ledger_delivery_dead_letters", "Dead letters.", lambda f: f.dead_letters),
)


_CERTIFICATES = """
SELECT subscription_id, expires_at FROM subscription_certificates
JOIN subscriptions USING (subscription_id) WHERE deleted_at IS NULL ORDER BY subscription_id
"""


def _is(said: str | None) -> int:
    return int(said is not None)


def exposition(database: Database) -> bytes:
    """The text that a scraper gets. Blocking; raises DatabaseUnavailable."""
    whole = CollectorRegistry()
    whole.register(_Feeds(publisher_status(database)))
    whole.register(_Certificates(database))
    return generate_latest(_PROCESS) + generate_latest(whole)


class _Feeds(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """One sample a feed, by subscription; live and replays apart."""
        feeds, names = self._status.feeds, ("subscription", "partition", "replay")
        for name, help_text, value in _FAMILIES:
            family = GaugeMetricFamily(name, help_text, labels=names)
            for feed in feeds:
                family.add_metric(_labels(feed), value(feed))
            yield family
        leases = GaugeMetricFamily(
            "ledger_publisher_feeds", "Feeds under each process's lease.", labels=("publisher",)
        )
        for publisher in self._status.publishers:
            leases.add_metric([publisher.place], publisher.feeds)
        yield leases


class _Certificates(Collector):
    """When client certificates end, so that an alarm can ring before receivers refuse them."""

    def __init__(self, database: Database) -> None:
        with database.connection() as connection:
            self._rows = connection.execute(_CERTIFICATES).fetchall()

    def collect(self) -> Iterator[Metric]:
        """One sample a subscription that has one."""
        family = GaugeMetricFamily(
            "ledger_client_certificate_expiry_timestamp_seconds",
            "When the subscription's client certificate expires.",
            labels=("subscription",),
        )
        for row in self._rows:
            family.add_metric([str(row["subscription_id"])], row["expires_at"].timestamp())
        yield family


def _labels(feed: FeedStatus) -> list[str]:
    replay = str(feed.feed_id) if feed.replay else ""
    return [str(feed.subscription_id), str(feed.partition), replay]
