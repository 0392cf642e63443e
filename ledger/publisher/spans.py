"""Spans: what there is to deliver, for every feed on every partition, and who took it on."""

from __future__ import annotations

from collections.abc import Sequence
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
    not received. A deleted subscription still gets what was appended before. ``epoch`` is 0
    until somebody takes the feed on.
    """

    feed_id: UUID
    partition: int
    subscription_id: UUID
    app_id: UUID
    event_type: str
    url: str
    deleted: bool
    paused: bool
    replay: bool
    sites: list[UUID] | None
    position: int
    beyond: list[int]
    until_position: int | None
    head: int
    epoch: int
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
           subscription.event_type, subscription.url,
           subscription.deleted_at IS NOT NULL AS deleted,
           pause.subscription_id IS NOT NULL AS paused,
           feeds.replay, feeds.sites,
           coalesce(done.position, feeds.after_position) AS position,
           coalesce(done.beyond, '{}') AS beyond,
           feeds.until_position, feeds.head, coalesce(done.epoch, 0) AS epoch,
           coalesce(chosen.policy, 'ordered') AS policy, chosen.delays, chosen.timeout,
           chosen.in_flight, chosen.per_second
    FROM feeds
    JOIN subscriptions AS subscription USING (subscription_id)
    LEFT JOIN delivery_cursors AS done USING (feed_id, partition)
    LEFT JOIN delivery_policies AS chosen USING (subscription_id)
    LEFT JOIN delivery_pauses AS pause USING (subscription_id)
)
SELECT * FROM spans
WHERE NOT deleted OR (NOT replay AND NOT paused AND position < until_position)
"""

_TAKE = """
INSERT INTO delivery_cursors (feed_id, partition, position, epoch)
SELECT feed_id, partition, position, 1
FROM unnest(%s::uuid[], %s::integer[], %s::bigint[]) AS feed (feed_id, partition, position)
ON CONFLICT (feed_id, partition) DO UPDATE SET epoch = delivery_cursors.epoch + 1
"""


def load_spans(connection: Connection) -> list[Span]:
    """Every feed that has or may get something to deliver, on every partition."""
    with connection.cursor(row_factory=class_row(Span)) as cursor:
        return cursor.execute(_SPANS).fetchall()


def take(connection: Connection, spans: Sequence[Span]) -> None:
    """Become the only one who writes these feeds' progress."""
    ordered = sorted(spans, key=lambda span: span.key)
    connection.execute(
        _TAKE,
        (
            [span.feed_id for span in ordered],
            [span.partition for span in ordered],
            [span.position for span in ordered],
        ),
    )
