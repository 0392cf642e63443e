"""PostgreSQL's own benchmark program, inserting one row per transaction."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from ledger.embedded import binaries

NAME = "pgbench single-row insert"
# About the bytes of one SettingsChanged, so that both write the same amount.
_INSERT = "INSERT INTO bench_rows (payload) VALUES (repeat('x', 700));\n"
_TABLE = "CREATE TABLE bench_rows (id bigserial PRIMARY KEY, payload text)"
_FEWEST_TRANSACTIONS = 10


class PgBench:
    """Inserts into a table of its own in a ledger's database, as the database's owner."""

    def __init__(self, owner_url: str, directory: Path) -> None:
        self._url = owner_url
        self._script = directory / "insert.sql"
        self._script.write_text(_INSERT)
        self._run("psql", "-qc", _TABLE, owner_url)

    def rate(self, clients: int, seconds: float) -> float:
        """Inserts per second by ``clients`` connections."""
        # The program knows whole seconds only.
        length = f"--time={round(seconds)}"
        if seconds < 1:
            length = f"--transactions={_FEWEST_TRANSACTIONS}"
        said = self._run(
            "pgbench",
            "--no-vacuum",
            "--protocol=prepared",
            f"--file={self._script}",
            f"--client={clients}",
            f"--jobs={min(clients, os.cpu_count() or 1)}",
            length,
            self._url,
        )
        found = re.search(r"tps = ([\d.]+)", said)
        if found is None:
            message = f"pgbench said no rate: {said}"
            raise RuntimeError(message)
        return float(found[1])

    def _run(self, program: str, *arguments: str) -> str:
        environment = os.environ | {"PGOPTIONS": "-c client_min_messages=warning"}
        ended = subprocess.run(
            [binaries() / program, *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
        )
        if ended.returncode != 0:
            message = f"{program} failed: {ended.stderr.strip()}"
            raise RuntimeError(message)
        return ended.stdout
