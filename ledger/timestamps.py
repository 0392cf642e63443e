"""How times are written: the stored form, the wire form, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

ONE_TICK = timedelta(microseconds=1)


def stored(moment: datetime) -> str:
    """``YYYY-MM-DDTHH:MM:SS.ffffffZ``, always six digits, always UTC."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def wire(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as the seeds' ``createdDate`` shows; cut, not rounded."""
    return f"{stored(moment)[:23]}Z"


def parse(text: str) -> datetime:
    """The moment that ``stored`` wrote. Raises ValueError for anything without a zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        message = f"{text!r} has no time zone"
        raise ValueError(message)
    return moment.astimezone(UTC)


def after(moment: datetime, previous: datetime | None) -> datetime:
    """``moment``, or one microsecond after ``previous`` where the clock did not move on."""
    if previous is None or moment > previous:
        return moment
    return previous + ONE_TICK
