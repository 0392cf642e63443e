"""How the publishing goes, as the database has it: lag, lanes, breakers, owners."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ledger.database import Database, class_row
from ledger.publisher.spans import load_spans


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """One feed on one partition.

    ``lag`` counts positions not done with, ``seconds`` the age of the first of them (0 where
    there is none). ``lanes`` are sites that wait, ``owner`` the process that has the feed.
    """

    feed_id: UUID
    subscription_id: UUID
    partition: int
    replay: bool
    lag: int
    seconds: float
    lanes: int
    dead_letters: int
    paused: str | None
    breaker: str | None
    next_probe_at: datetime | None
    owner: str | None


@dataclass(frozen=True, slots=True)
class PublisherProcess:
    """A process that publishes, with the feeds that it has."""

    publisher_id: UUID
    place: str
    feeds: int


@dataclass(frozen=True, slots=True)
class Status:
    """All feeds, those with the greatest lag first, and all processes that hold a lease."""

    feeds: list[FeedStatus]
    publishers: list[PublisherProcess]


_FEEDS = """
SELECT feed.feed_id, feed.subscription_id, feed.partition, feed.replay, feed.lag,
       CASE WHEN feed.lag > 0 THEN greatest(0, extract(epoch FROM clock_timestamp()
           - (convert_from(next.state, 'UTF8')::jsonb ->> 'timestamp')::timestamptz))::float8
       ELSE 0 END AS seconds,
       (SELECT count(*) FROM delivery_lanes AS lane
        WHERE (lane.feed_id, lane.partition) = (feed.feed_id, feed.partition)) AS lanes,
       (SELECT count(*) FROM dead_letters AS dead
        WHERE (dead.subscription_id, dead.partition) = (feed.feed_id, feed.partition))
       AS dead_letters,
       pause.reason AS paused, breaker.last_error AS breaker, breaker.next_probe_at,
       publisher.place AS owner
FROM unnest(%s::uuid[], %s::uuid[], %s::integer[], %s::boolean[], %s::bigint[], %s::bigint[],
            %s::uuid[])
     AS feed (feed_id, subscription_id, partition, replay, lag, position, owner)
LEFT JOIN events AS next
  ON (next.partition, next.position) = (feed.partition, feed.position + 1)
LEFT JOIN delivery_pauses AS pause ON pause.subscription_id = feed.subscription_id
LEFT JOIN delivery_breakers AS breaker
  ON (breaker.feed_id, breaker.partition) = (feed.feed_id, feed.partition)
LEFT JOIN publishers AS publisher ON publisher.publisher_id = feed.owner
ORDER BY feed.lag DESC, feed.feed_id, feed.partition
"""

_PUBLISHERS = """
SELECT publisher_id, place, (
    SELECT count(*) FROM delivery_cursors AS feed
    WHERE feed.publisher_id = publishers.publisher_id
) AS feeds
FROM publishers WHERE expires_at > clock_timestamp() ORDER BY place, publisher_id
"""


def publisher_status(database: Database) -> Status:
    """Look once; everything is of the same moment but for what is being written."""
    with database.connection() as connection:
        spans = load_spans(connection)
        columns = (
            [span.feed_id for span in spans],
            [span.subscription_id for span in spans],
            [span.partition for span in spans],
            [span.replay for span in spans],
            [_lag(span.target, span.position, span.beyond) for span in spans],
            [span.position for span in spans],
            [span.owner for span in spans],
        )
        with connection.cursor(row_factory=class_row(FeedStatus)) as cursor:
            feeds = cursor.execute(_FEEDS, columns).fetchall()
        with connection.cursor(row_factory=class_row(PublisherProcess)) as cursor:
            publishers = cursor.execute(_PUBLISHERS).fetchall()
    return Status(feeds, publishers)


def _lag(target: int, position: int, beyond: list[int]) -> int:
    pairs = zip(beyond[::2], beyond[1::2], strict=True)
    done = sum(last - first + 1 for first, last in pairs)
    return max(0, target - position - done)
