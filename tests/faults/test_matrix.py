"""The matrix says what the tests do."""

from __future__ import annotations

from faults.matrix import GUARANTEES, PAGE, page, rows


def test_the_page_shows_what_the_tests_name():
    """A fault that is tried, renamed or given up changes the page."""
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/faults/matrix.py"


def test_every_guarantee_is_held_under_some_fault():
    """And no test names one that there is not."""
    assert {name for row in rows() for name in row.guarantees} == set(GUARANTEES)


def test_every_fault_names_a_guarantee():
    """A row without a dot would say nothing."""
    assert [row.fault for row in rows() if not row.guarantees] == []
    assert len({(row.fault, row.test) for row in rows()}) == len(rows())
