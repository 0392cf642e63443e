"""What operators read in the log: one line for each batch of a feed, never one for an attempt."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import structlog

from ledger.publisher.journal import Attempt
from ledger.publisher.spans import FeedKey
from ledger.publisher.state import Progress

log = structlog.get_logger(__name__)


def log_batches(batches: Iterable[Progress], fenced: Iterable[FeedKey]) -> None:
    """Say what each feed did since its progress was last written.

    No URL, header or content: a URL may hold a secret. ``fenced`` are feeds whose progress was
    refused, because another process had taken them over.
    """
    lost = set(fenced)
    for one in batches:
        if not (one.attempts or one.pause or one.breaker_changed or one.key in lost):
            continue
        line = batch_line(one) | ({"fenced": True} if one.key in lost else {})
        (log.warning if _needs_attention(line) else log.info)("publisher batch", **line)


def batch_line(batch: Progress) -> dict[str, Any]:
    """The line's fields: whose, how many came to what, how long it took, from where to where."""
    feed_id, partition = batch.key
    line: dict[str, Any] = {"subscription": str(batch.subscription_id), "partition": partition}
    if batch.subscription_id != feed_id:
        line["replay"] = str(feed_id)
    line |= _counts(batch.attempts)
    if batch.dead:
        line["dead"] = len(batch.dead)
    if (problem := _last_problem(batch.attempts)) is not None:
        line["problem"] = problem
    if batch.breaker_changed:
        line["breaker"] = "closed" if batch.breaker is None else "open"
    if batch.pause is not None:
        line["paused"] = batch.pause[1]
    return line


def _counts(attempts: list[Attempt]) -> dict[str, Any]:
    if not attempts:
        return {}
    failures = [attempt for attempt in attempts if attempt.error is not None]
    refused = sum(attempt.status is not None for attempt in failures)
    positions = [attempt.position for attempt in attempts]
    return {
        "received": len(attempts) - len(failures),
        "refused": refused,
        "failed": len(failures) - refused,
        "seconds": round(_seconds(attempts), 3),
        "from_position": min(positions),
        "to_position": max(positions),
    }


def _seconds(attempts: list[Attempt]) -> float:
    """From the first one's beginning until the last one's end."""
    ends = [one.at + timedelta(milliseconds=one.milliseconds) for one in attempts]
    return (max(ends) - min(one.at for one in attempts)).total_seconds()


def _last_problem(attempts: list[Attempt]) -> str | None:
    return next((one.error for one in reversed(attempts) if one.error is not None), None)


def _needs_attention(line: dict[str, Any]) -> bool:
    return bool({"problem", "dead", "paused", "fenced"} & line.keys()) or (
        line.get("breaker") == "open"
    )
