"""Differences, and the patches that undo: pure."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ledger.history.rows import touched
from ledger.history.snapshots import apply_changes
from ledger.settings import changes_between

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.text("ab", max_size=2)
    | st.lists(st.integers(0, 2), max_size=2)
)
SETTINGS = st.recursive(
    st.dictionaries(st.sampled_from("abc"), LEAVES, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), LEAVES | inner, max_size=3),
    max_leaves=8,
)


def without_empty(settings: Any) -> Any:
    """The same without objects that hold nothing, which no settings have inside."""
    if not isinstance(settings, dict):
        return settings
    kept = {name: without_empty(value) for name, value in settings.items()}
    return {name: value for name, value in kept.items() if value != {}}


@given(SETTINGS.map(without_empty), SETTINGS.map(without_empty))
def test_a_difference_leads_from_left_to_right_and_back(left: dict, right: dict) -> None:
    """The changes applied to the left give the right, and taken back from the right the left."""
    changes = changes_between(left, right)
    assert apply_changes(left, changes) == right
    assert apply_changes(right, changes, back=True) == left


def test_a_path_is_touched_with_all_that_encloses_it() -> None:
    """So the beginning of a path finds all changes below it."""
    assert touched(["b.c.d", "a", "b.e"]) == ["a", "b", "b.c", "b.c.d", "b.e"]
