"""How people name a point in a history: a version, a time, or so long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from ledger import timestamps
from ledger.errors import InvalidInput

When = int | str | datetime | None
"""A version (``12``, ``"v12"``; 0 is before any change), a time with its zone, ``"2 days ago"``; None or ``"now"``: the head."""
Time = str | datetime
"""A time with its zone, or ``"2 days ago"``."""

MILLISECOND = timedelta(milliseconds=1)
_VERSION = re.compile(r"v([0-9]{1,18})")
_AGO = re.compile(r"([0-9]{1,9}) (second|minute|hour|day|week)s? ago")
_FRACTION = re.compile(r"[.,]([0-9]+)")
_EXAMPLES = '2024-07-04T15:10:46Z, 2024-07-04T17:10:46+02:00 or "2 days ago"'


def parse_when(when: When, option: str, now: datetime) -> int | datetime | None:
    """The version, or the last instant that counts, or None for the head.

    Raises InvalidInput naming ``option`` for what cannot be understood, has no zone or lies
    in the future of ``now``.
    """
    if when is None or when == "now":
        return None
    if isinstance(when, int) and not isinstance(when, bool):
        return parse_version(when, option, lowest=0)
    if isinstance(when, str) and (named := _VERSION.fullmatch(when)):
        return parse_version(int(named[1]), option, lowest=0)
    if not isinstance(when, str | datetime):
        raise InvalidInput(option, f"expected a version such as v12, or a time: {_EXAMPLES}")
    return parse_until(when, option, now)


def parse_version(version: int, option: str, *, lowest: int = 1) -> int:
    """A version's number: that of a change, or 0 where ``lowest`` admits what was before any.

    Raises InvalidInput for what is none.
    """
    if isinstance(version, bool) or not lowest <= version < 2**63:
        raise InvalidInput(option, f"versions are numbered from {lowest}")
    return version


def parse_since(time: Time, option: str, now: datetime) -> datetime:
    """The first instant that counts. Raises as ``parse_when`` does."""
    return _checked(_parse(time, option, now), option, now)


def parse_until(time: Time, option: str, now: datetime) -> datetime:
    """The last instant that counts. Raises as ``parse_when`` does.

    A time given in milliseconds, or coarser, means the end of that millisecond (design:
    "Reads"), so that an ``updatedDate`` includes the change that it names.
    """
    moment = _checked(_parse(time, option, now), option, now)
    in_milliseconds = moment.microsecond % 1000 == 0
    if isinstance(time, str) and (fraction := _FRACTION.search(time)):
        in_milliseconds = len(fraction[1]) <= 3
    return moment + MILLISECOND - timestamps.ONE_TICK if in_milliseconds else moment


def check_order(since: datetime | None, until: datetime | None) -> None:
    """Raise InvalidInput for a range that is upside down."""
    if since is not None and until is not None and since > until:
        raise InvalidInput("since", "must not be later than until")


def _checked(moment: datetime, option: str, now: datetime) -> datetime:
    if moment > now:
        raise InvalidInput(option, f"{timestamps.stored(moment)} lies in the future")
    return moment


def _parse(time: Time, option: str, now: datetime) -> datetime:
    try:
        if isinstance(time, datetime):
            moment = time
        elif ago := _AGO.fullmatch(time):
            moment = now - timedelta(**{f"{ago[2]}s": int(ago[1])})
        else:
            moment = datetime.fromisoformat(time)
        if moment.tzinfo is None or moment.utcoffset() is None:
            raise InvalidInput(option, f"{time} has no time zone; expected {_EXAMPLES}")
        return moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        raise InvalidInput(option, f"{time!r} is not a time; expected {_EXAMPLES}") from None
