"""How times are written: the stored form, the wire form, and a clock that may go back."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import timestamps

zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=zones)


@given(moments)
def test_the_stored_form_reads_back_as_the_same_moment(moment: datetime) -> None:
    """Parsing what was stored gives the moment, in UTC, to the microsecond."""
    parsed = timestamps.parse(timestamps.stored(moment))
    assert parsed == moment
    assert parsed.tzinfo is UTC


@given(moments)
def test_the_stored_form_always_has_six_digits_and_z(moment: datetime) -> None:
    """Four digits of year and six of fraction, whatever the moment; so text sorts like time."""
    text = timestamps.stored(moment)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)


@given(moments, moments)
def test_stored_forms_sort_like_the_moments(a: datetime, b: datetime) -> None:
    """Of two stored forms the lesser text is the earlier moment."""
    assert (timestamps.stored(a) < timestamps.stored(b)) == (a < b)


@given(moments)
def test_the_wire_form_cuts_to_milliseconds(moment: datetime) -> None:
    """The wire shows the stored form's first three digits: never later than the moment itself."""
    shown = timestamps.wire(moment)
    assert shown == timestamps.stored(moment)[:-4] + "Z"
    assert timedelta(0) <= moment - timestamps.parse(shown) < timedelta(milliseconds=1)


def test_the_forms_are_pinned() -> None:
    """One moment in both forms, digit by digit, from another zone."""
    moment = datetime(2024, 7, 4, 17, 10, 46, 70_999, tzinfo=timezone(timedelta(hours=2)))
    assert timestamps.stored(moment) == "2024-07-04T15:10:46.070999Z"
    assert timestamps.wire(moment) == "2024-07-04T15:10:46.070Z"
    assert timestamps.stored(datetime(2024, 1, 1, tzinfo=UTC)) == "2024-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("text", ["2024-07-04T15:10:46.070", "2024-07-04", "yesterday", ""])
def test_a_time_without_a_zone_is_not_a_moment(text: str) -> None:
    """Only an unambiguous time is parsed."""
    with pytest.raises(ValueError):
        timestamps.parse(text)


@given(st.lists(moments, min_size=1))
def test_after_strictly_increases_whatever_the_clock_does(clock: list[datetime]) -> None:
    """A clock that stands still or goes back still gives stamps that only grow."""
    previous: datetime | None = None
    for now in clock:
        stamp = timestamps.after(now, previous)
        assert stamp >= now
        assert previous is None or stamp > previous
        previous = stamp


def test_a_clock_that_moves_on_is_taken_at_its_word() -> None:
    """The next stamp is the clock's own where that is later, and one microsecond on otherwise."""
    now = datetime(2024, 1, 1, tzinfo=UTC)
    assert timestamps.after(now, None) == now
    assert timestamps.after(now, now - timedelta(microseconds=1)) == now
    assert timestamps.after(now, now) == now + timedelta(microseconds=1)
    assert timestamps.after(now, now + timedelta(days=1)) == now + timedelta(days=1, microseconds=1)
