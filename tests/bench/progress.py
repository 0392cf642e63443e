"""What goes on while the benchmarks run: one line on a terminal, a line per case elsewhere."""

from __future__ import annotations

import sys

_CLEAR = "\r\x1b[K"


def say(case: str, number: int, rounds: int) -> None:
    """Round ``number`` of a case begins; 0 is the one that warms up."""
    if sys.stderr.isatty():
        where = f"round {number} of {rounds}" if number else "warming up"
        sys.stderr.write(f"{_CLEAR}{case}: {where} …")
    elif number <= 1:
        where = "" if number else ": warming up"
        sys.stderr.write(f"{case}{where} …\n")
    sys.stderr.flush()


def note(sentence: str) -> None:
    """Something that lasts, or that must be known when the figures are read."""
    clear = _CLEAR if sys.stderr.isatty() else ""
    sys.stderr.write(f"{clear}{sentence}\n")
    sys.stderr.flush()
