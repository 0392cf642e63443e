"""Processes of callers, and the journals they keep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from faults.opening import SECRET

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Journal:
    """What the callers of a process were told."""

    acknowledged: dict[str, tuple[int, int, dict[str, Any]]] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    unavailable: set[str] = field(default_factory=set)
    finished: bool = False


class Patcher:
    """One process of ``callers`` threads that make ``changes`` changes each."""

    def __init__(
        self, name: str, url: str, folder: Path, sites: Sequence[UUID], callers: int, changes: int
    ) -> None:
        self.path = folder / f"{name}.journal"
        self.expected = {f"{name}/{i}/{n}" for i in range(callers) for n in range(changes)}
        arguments = [name, url, SECRET, self.path, callers, changes, *sites]
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("patcher.py")), *map(str, arguments)],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )

    def go(self) -> None:
        """Give the sign to begin."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """End it as an out-of-memory killer would."""
        self.process.kill()
        self.process.wait()

    def finish(self, within: float = 150) -> Journal:
        """Wait until it is done."""
        assert self.process.wait(within) == 0
        journal = self.journal()
        assert journal.finished
        return journal

    def lines(self) -> int:
        """How many outcomes are on record by now."""
        return self.path.read_bytes().count(b"\n") if self.path.exists() else 0

    def journal(self) -> Journal:
        """What is on record by now."""
        journal = Journal()
        for line in self.path.read_text().splitlines():
            match line.split(" "):
                case ["acknowledged", tag, version, position, settings]:
                    outcome = (int(version), int(position), json.loads(settings))
                    journal.acknowledged[tag] = outcome
                case ["unknown", tag]:
                    journal.unknown.add(tag)
                case ["unavailable", tag]:
                    journal.unavailable.add(tag)
                case ["finished"]:
                    journal.finished = True
        return journal


@contextmanager
def patchers(
    url: str, folder: Path, sites: Sequence[UUID], *, callers: int = 16, changes: int
) -> Iterator[list[Patcher]]:
    """Two processes of callers, at work by the time the block begins."""
    started = [Patcher(name, url, folder, sites, callers, changes) for name in ("east", "west")]
    try:
        for patcher in started:
            patcher.go()
        yield started
    finally:
        for patcher in started:
            if patcher.process.poll() is None:
                patcher.kill()
            patcher.process.stdin.close()
