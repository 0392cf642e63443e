# ruff: noqa: T201 — a program that prints
"""A program: replays or exports the ledger of the environment, and prints how that went."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

from ledger import Ledger

_STATUS = Path("/proc/self/status")


def main(what: str, format_name: str = "ndjson") -> None:
    """Print events, seconds and the peak memory in MiB as JSON."""
    with Ledger.open() as ledger:
        began = time.monotonic()
        events = replay(ledger) if what == "replay" else export(ledger, format_name)
        took = time.monotonic() - began
    print(json.dumps({"events": events, "seconds": took, "peak": peak_memory()}))


def replay(ledger: Ledger) -> int:
    """Look at every change; returns how many there were."""
    return sum(1 for _ in ledger.replay())


def export(ledger: Ledger, format_name: str) -> int:
    """Hand out every change; returns how many there were."""
    with open(os.devnull, "wb") as out:  # noqa: PTH123 — no file of anybody's
        return ledger.audit.export(out, format_name).events


def peak_memory() -> float:
    """The most memory that this process had at once, in MiB.

    Linux keeps the parent's peak in getrusage across exec, so its own account comes first.
    """
    if _STATUS.exists():
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
