"""Spans: what there is to deliver, for every feed on every partition, and who took it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from ledger.database import Connection, class_row
from ledger.publisher.policy import Choices

FeedKey = tuple[UUID, int]
"""A feed's id and a partition. A subscription's live feed has the subscription's id."""


@dataclass(frozen=True, slots=True)
class Span:
    """A feed on one partition: where it stands, and how far it may go.

    ``position`` is the last one done with, ``beyond`` the stretches done with after it (first
    and last of each), ``head`` the partition's last; positions above ``until_position`` are
    not received. A deleted subscription still gets what was appended before. ``epoch`` rises
    whenever somebody takes the feed on; ``owner`` is whoever has it under a lease that lasts.
    """

    feed_id: UUID
    partition: int
    subscription_id: UUID
    app_id: UUID
    event_type: str
    url: str
    certificate: str | None
    deleted: bool
    paused: bool
    replay: bool
    sites: list[UUID] | None
    position: int
    beyond: list[int]
    until_position: int | None
    head: int
    epoch: int
    owner: UUID | None
    policy: str
    delays: list[float] | None
    timeout: float | None
    in_flight: int | None
    per_second: float | None

    @property
    def key(self) -> FeedKey:
        """What tells it from others."""
        return self.feed_id, self.partition

    @property
    def target(self) -> int:
        """The last position that is to be looked at now."""
        return self.head if self.until_position is None else min(self.head, self.until_position)

    @property
    def choices(self) -> Choices:
        """What was chosen for the subscription."""
        return Choices(self.policy, self.delays, self.timeout, self.in_flight, self.per_second)

    def is_done(self, position: int) -> bool:
        """Whether a position after the cursor was done with before."""
        pairs = zip(self.beyond[::2], self.beyond[1::2], strict=True)
        return any(first <= position <= last for first, last in pairs)


_SPANS = """
WITH heads AS MATERIALIZED (
    SELECT partition, (
        SELECT coalesce(max(position), 0) FROM events
        WHERE events.partition = partitions.partition
    ) AS head
    FROM partitions
), feeds AS (
    SELECT subscription_id AS feed_id, partition, subscription_id, false AS replay,
           NULL::uuid[] AS sites, coalesce(span.after_position, 0) AS after_position,
           span.until_position, heads.head
    FROM subscriptions
    CROSS JOIN heads
    LEFT JOIN subscription_spans AS span USING (subscription_id, partition)
    UNION ALL
    SELECT replay_id, partition, subscription_id, true, sites, after_position,
           until_position, heads.head
    FROM delivery_replays
    JOIN heads USING (partition)
    WHERE finished_at IS NULL
), spans AS (
    SELECT feeds.feed_id, partition, subscription_id, subscription.app_id,
           subscription.event_type, subscription.url, proof.fingerprint AS certificate,
           subscription.deleted_at IS NOT NULL AS deleted,
           pause.subscription_id IS NOT NULL AS paused,
           feeds.replay, feeds.sites,
           coalesce(done.position, feeds.after_position) AS position,
           coalesce(done.beyond, '{}') AS beyond,
           feeds.until_position, feeds.head, coalesce(done.epoch, 0) AS epoch,
           owner.publisher_id AS owner,
           coalesce(chosen.policy, 'ordered') AS policy, chosen.delays, chosen.timeout,
           chosen.in_flight, chosen.per_second
    FROM feeds
    JOIN subscriptions AS subscription USING (subscription_id)
    LEFT JOIN delivery_cursors AS done USING (feed_id, partition)
    LEFT JOIN publishers AS owner
      ON owner.publisher_id = done.publisher_id AND owner.expires_at > clock_timestamp()
    LEFT JOIN delivery_policies AS chosen USING (subscription_id)
    LEFT JOIN delivery_pauses AS pause USING (subscription_id)
    LEFT JOIN subscription_certificates AS proof USING (subscription_id)
)
SELECT * FROM spans
WHERE NOT deleted OR (NOT replay AND NOT paused AND position < until_position)
"""

_TIDE = """
SELECT partition, (
    SELECT coalesce(max(position), 0) FROM events
    WHERE events.partition = partitions.partition
) AS head, (SELECT count(deleted_at) FROM subscriptions) AS ended
FROM partitions
"""

# The epoch seen before stands for "free": whoever took the feed meanwhile has raised it.
_TAKE = """
INSERT INTO delivery_cursors (feed_id, partition, position, epoch, publisher_id)
SELECT feed_id, partition, position, epoch + 1, %s
FROM unnest(%s::uuid[], %s::integer[], %s::bigint[], %s::bigint[])
     AS feed (feed_id, partition, position, epoch)
ON CONFLICT (feed_id, partition) DO UPDATE
SET epoch = excluded.epoch, publisher_id = excluded.publisher_id
WHERE delivery_cursors.epoch = excluded.epoch - 1
RETURNING feed_id, partition
"""


@dataclass(frozen=True, slots=True)
class Tide:
    """What changes most: the head of each partition, and how many subscriptions have ended.

    As long as the latter stands, the spans known before tell right how far they may go.
    """

    heads: Mapping[int, int]
    ended: int


def load_tide(connection: Connection) -> Tide:
    """Look at all heads in one statement, so that no end is missed that a head came after."""
    rows = connection.execute(_TIDE).fetchall()
    heads = {row["partition"]: row["head"] for row in rows}
    return Tide(heads, max((row["ended"] for row in rows), default=0))


def load_spans(connection: Connection) -> list[Span]:
    """Every feed that has or may get something to deliver, on every partition."""
    with connection.cursor(row_factory=class_row(Span)) as cursor:
        return cursor.execute(_SPANS).fetchall()


def take(connection: Connection, spans: Sequence[Span], publisher_id: UUID) -> set[FeedKey]:
    """Become the only one who writes these feeds' progress; those that nobody took meanwhile.

    A breaker that was open has to open again: the endpoint may answer us.
    """
    ordered = sorted(spans, key=lambda span: span.key)
    rows = connection.execute(
        _TAKE,
        (
            publisher_id,
            [span.feed_id for span in ordered],
            [span.partition for span in ordered],
            [span.position for span in ordered],
            [span.epoch for span in ordered],
        ),
    ).fetchall()
    taken = {(row["feed_id"], row["partition"]) for row in rows}
    connection.cursor().executemany(
        "DELETE FROM delivery_breakers WHERE feed_id = %s AND partition = %s", sorted(taken)
    )
    return taken


def give_back(connection: Connection, keys: Sequence[FeedKey], publisher_id: UUID) -> None:
    """Leave feeds to whoever wants them."""
    connection.execute(
        """
        UPDATE delivery_cursors SET publisher_id = NULL
        FROM unnest(%s::uuid[], %s::integer[]) AS feed (feed_id, partition)
        WHERE (delivery_cursors.feed_id, delivery_cursors.partition)
              = (feed.feed_id, feed.partition)
          AND publisher_id = %s
        """,
        ([key[0] for key in keys], [key[1] for key in keys], publisher_id),
    )


def living_publishers(connection: Connection) -> int:
    """How many processes share the feeds."""
    row = connection.execute(
        "SELECT count(*) AS publishers FROM publishers WHERE expires_at > clock_timestamp()"
    ).fetchone()
    assert row is not None
    publishers: int = row["publishers"]
    return publishers
