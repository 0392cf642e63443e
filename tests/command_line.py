"""The command line as a user runs it: a process of its own, on a data directory of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 60.0


@dataclass(frozen=True)
class CommandLine:
    """Runs ``settings-ledger`` with this data directory, and whatever ``environment`` adds."""

    data_dir: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
        return kept | {"LEDGER_DATA_DIR": str(self.data_dir), **self.environment}

    def having(self, **environment: str) -> CommandLine:
        """The same with more in the environment."""
        return CommandLine(self.data_dir, self.environment | environment)

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever that is."""
        return subprocess.run(
            [sys.executable, "-m", "ledger", *map(str, arguments)],
            env=self._environment,
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def words(self, *arguments: object) -> str:
        """What a person reads after a command that did its job."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def json(self, *arguments: object) -> Any:
        """The one document that ``--json`` prints."""
        return json.loads(self.words(*arguments, "--json"))

    def refusal(self, *arguments: object) -> str:
        """The sentence of a command that failed as it should: nothing on stdout, exit 1."""
        done = self.run(*arguments)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert "Traceback" not in done.stderr
        return done.stderr.strip()

    @contextmanager
    def started(self, *arguments: object) -> Iterator[subprocess.Popen[str]]:
        """A command that goes on; killed at the end of the block unless it ended before."""
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "ledger", *map(str, arguments)],
            env=self._environment,
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def serving(self, *arguments: object) -> Iterator[str]:
        """``serve`` on a free port: its address."""
        with self.started("serve", "--port", 0, *arguments) as process:
            yield listening_address(process)


def listening_address(process: subprocess.Popen[str]) -> str:
    """The address that ``serve`` prints once it answers."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Listening on "), process.communicate()
    return line.removeprefix("Listening on ").strip()


def interrupted(process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[int, str]:
    """Send a signal; return (exit status, stderr). One that does not end by itself fails the test."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors
