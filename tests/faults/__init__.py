"""Attempts to lose, repeat or alter a change, and what they are made with."""

import pytest

pytest.register_assert_rewrite("faults.evidence", "faults.delivery")
