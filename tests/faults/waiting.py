"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
PULSE = 0.005


def eventually(look: Callable[[], Found], *, within: float = 30.0) -> Found:
    """What ``look`` returns as soon as that is true; fails once ``within`` seconds have passed."""
    deadline = time.monotonic() + within
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still not so after {within} s: {look}")
        threading.Event().wait(PULSE)
    return found
