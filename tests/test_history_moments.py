"""How people name a point in a history, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidInput
from ledger.history.moments import check_order, parse_since, parse_until, parse_when

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("when", "meant"),
    [
        (None, None),
        ("now", None),
        (3, 3),
        ("v12", 12),
        (0, 0),
        ("v0", 0),
        ("2026-02-01T10:00:00.070Z", at(2026, 2, 1, 10, 0, 0, 70_999)),
        ("2026-02-01T10:00:00Z", at(2026, 2, 1, 10, 0, 0, 999)),
        ("2026-02-01T10:00:00.070000Z", at(2026, 2, 1, 10, 0, 0, 70_000)),
        ("2026-02-01T10:00:00.070123Z", at(2026, 2, 1, 10, 0, 0, 70_123)),
        ("2026-02-01T12:00:00.5+02:00", at(2026, 2, 1, 10, 0, 0, 500_999)),
        (at(2026, 2, 1, 10, 0, 0, 70_000), at(2026, 2, 1, 10, 0, 0, 70_999)),
        (at(2026, 2, 1, 10, 0, 0, 70_123), at(2026, 2, 1, 10, 0, 0, 70_123)),
        ("2 days ago", NOW - timedelta(days=2)),
        ("1 week ago", NOW - timedelta(weeks=1)),
    ],
)
def test_a_moment_is_a_version_a_time_or_so_long_ago(
    when: int | str | datetime | None, meant: int | datetime | None
) -> None:
    """A time in milliseconds means the end of that millisecond, in microseconds itself."""
    assert parse_when(when, "at", NOW) == meant


@pytest.mark.parametrize(
    "when",
    [
        "2026-02-01T10:00:00",
        "2026-02-01",
        datetime(2026, 2, 1),
        "yesterday",
        "v",
        "v-1",
        "",
        -1,
        True,
        3.5,
        "99999999 weeks ago",
        "0001-01-01T00:00:00+23:00",
        "2026-03-01T12:00:01Z",
        NOW + timedelta(seconds=1),
    ],
)
def test_what_names_no_moment_is_refused_by_its_option(when: object) -> None:
    """A time without a zone, in the future, or none at all: an error that names the option."""
    with pytest.raises(InvalidInput) as refused:
        parse_when(when, "at", NOW)  # type: ignore[arg-type]
    assert refused.value.name == "at"


def test_a_version_is_no_time() -> None:
    """Where only a time will do, a version is refused."""
    with pytest.raises(InvalidInput, match="since: 'v3' is not a time"):
        parse_since("v3", "since", NOW)


def test_a_range_upside_down_is_refused() -> None:
    """The beginning is not behind the end."""
    with pytest.raises(InvalidInput, match="since"):
        check_order(NOW, NOW - timedelta(seconds=1))


@given(
    st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2026, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
)
def test_a_range_of_one_moment_holds_what_happened_then(moment: datetime, minutes: int) -> None:
    """Whatever the precision and the zone, since and until of one time enclose it."""
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    for given_as in (zoned, zoned.isoformat(), zoned.isoformat(timespec="milliseconds")):
        since, until = parse_since(given_as, "a", NOW), parse_until(given_as, "b", NOW)
        assert since <= zoned <= until
