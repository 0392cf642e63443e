"""The most memory that a process had at once, in MiB."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

_PROCESSES = Path("/proc")


def peak(process: int | None = None) -> float | None:
    """Of a process by its id, by default of this one; None where the system does not tell.

    Linux keeps the parent's peak in getrusage across exec, so its own account comes first.
    """
    status = _PROCESSES / str(process or os.getpid()) / "status"
    with suppress(OSError):
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    if process is not None:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1024 * 1024 if sys.platform == "darwin" else 1024)


def forget_peak() -> None:
    """Begin anew with this process's peak, where the system can do that."""
    with suppress(OSError):
        (_PROCESSES / "self" / "clear_refs").write_text("5")
