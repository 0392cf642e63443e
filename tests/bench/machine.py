"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.bench.server import Server

_PROCESSORS = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """Processor, versions, how PostgreSQL makes sure of its disk, and what else went on."""

    processor: str
    processors: int
    system: str
    python: str
    postgres: str
    fsync: str
    load: float

    @classmethod
    def seen(cls, server: Server) -> Self:
        """The machine at this moment."""
        return cls(
            processor=_processor(),
            processors=os.cpu_count() or 1,
            system=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
            postgres=server.option("server_version"),
            fsync=f"{server.option('fsync')}, {server.option('wal_sync_method')}",
            load=os.getloadavg()[0],
        )

    def __str__(self) -> str:
        return (
            f"{self.processor}, {self.processors} processors, {self.system}, "
            f"Python {self.python}, PostgreSQL {self.postgres}, fsync {self.fsync}; "
            f"load at the start {self.load:.2f}"
        )


def _processor() -> str:
    if _PROCESSORS.exists():
        found = re.search(r"model name\s*:\s*(.+)", _PROCESSORS.read_text())
        if found is not None:
            return found[1].strip()
    return platform.processor() or platform.machine()
