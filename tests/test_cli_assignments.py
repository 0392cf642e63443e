"""``--set name=value`` says what a patch says."""

from __future__ import annotations

import pytest

from ledger.cli.assignments import patch_of


@pytest.mark.parametrize(
    ("assignments", "patch"),
    [
        (["createInvoice=true"], {"createInvoice": True}),
        (["createInvoice=null"], {"createInvoice": None}),
        (["a=ON_ORDER_PAID"], {"a": "ON_ORDER_PAID"}),
        (['a="true"'], {"a": "true"}),
        (["a=x=y"], {"a": "x=y"}),
        (["a="], {"a": ""}),
        (["a=NaN"], {"a": "NaN"}),
        (["a=3"], {"a": 3}),
        (["a.b=1", "a.c=2", "d=3"], {"a": {"b": 1, "c": 2}, "d": 3}),
        (['a={"b": 1}'], {"a": {"b": 1}}),
    ],
)
def test_assignments_make_a_patch(assignments, patch):
    """Values are JSON, else the text itself; dots reach inside."""
    assert patch_of(assignments) == patch


@pytest.mark.parametrize(
    "assignments",
    [["a"], ["=1"], ["a.=1"], [".a=1"], ["a=1", "a=2"], ["a=1", "a.b=2"], ["a.b=1", "a=2"]],
)
def test_contradictions_are_refused(assignments):
    """What has no name, or is set twice, is refused."""
    with pytest.raises(ValueError, match=r"set twice|of the form"):
        patch_of(assignments)
