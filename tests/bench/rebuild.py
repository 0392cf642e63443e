"""rebuild: the history made anew beside a plain COPY of its rows; replay and export beside
parsing the JSON of the same events and nothing else."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import LiteralString

from psycopg import sql

from ledger import Ledger, eventlog
from tests.bench import generator
from tests.bench.generator import PARTITION, owner_connection
from tests.bench.measure import Comparison, compare

SCENARIO = "rebuild"
LEAST_RATE = 20_000
MOST_MEMORY = 200
CHECKOUT = Path(__file__).parents[2]
WHAT = ("replay", "export", "export parquet", "export ocsf")
"""What reads the whole log; NDJSON where no format is named."""
TABLES = ("settings_history", "settings_history_fields")
_PAGE = 5000
_CHUNK = 1 << 20


def run(directory: Path, *, changes: int, sites: int, rounds: int) -> Iterator[Comparison]:
    """Load a ledger, and compare."""
    with Ledger.open(data_dir=directory / "ledger") as ledger:
        generator.load(ledger, changes, sites)
        yield from compare_all(ledger, directory, changes=changes, rounds=rounds)


def compare_all(
    ledger: Ledger, directory: Path, *, changes: int, rounds: int
) -> Iterator[Comparison]:
    """Rebuild, replay and export of a loaded ledger; no warm-up, since each takes so long."""
    copying = PlainCopy(ledger, directory, changes)
    rebuilt = compare(
        SCENARIO,
        "rebuild, events",
        "plain COPY of the same rows",
        ours=lambda: _rebuild_rate(ledger),
        theirs=copying.rate,
        goal=None,
        rounds=rounds,
        warm_up=False,
    )
    yield rebuilt
    bound = f"the least that is wanted, {LEAST_RATE:,}"
    yield replace(rebuilt, baseline=bound, theirs=LEAST_RATE, goal=1.0)
    for what in WHAT:
        yield from _compare_reading(ledger, what, changes, rounds)


def _rebuild_rate(ledger: Ledger) -> float:
    done = ledger.projections.rebuild("settings_history")
    return done.events / done.seconds


def _compare_reading(ledger: Ledger, what: str, changes: int, rounds: int) -> Iterator[Comparison]:
    reading = Reading(ledger, what)
    yield compare(
        SCENARIO,
        f"{what}, events",
        "JSON parsing alone",
        ours=reading.rate,
        theirs=lambda: parsing_rate(ledger, changes),
        goal=None,
        rounds=rounds,
        warm_up=False,
    )
    yield Comparison(
        SCENARIO,
        f"{what}, peak MiB",
        f"the most that is wanted, {MOST_MEMORY}",
        ours=statistics.median(reading.peaks),
        theirs=MOST_MEMORY,
        spread=max(reading.peaks) / min(reading.peaks),
        goal=1.0,
        unit=" MiB",
        smaller_is_better=True,
    )


class PlainCopy:
    """The rows of the history in files, copied into tables without any index."""

    def __init__(self, ledger: Ledger, directory: Path, changes: int) -> None:
        self._ledger, self._changes = ledger, changes
        self._files = {table: directory / f"{table}.copy" for table in TABLES}
        with closing(owner_connection(ledger)) as connection, connection.cursor() as cursor:
            for table, file in self._files.items():
                with (
                    file.open("wb") as out,
                    cursor.copy(_statement("COPY {} TO STDOUT (FORMAT binary)", table)) as copy,
                ):
                    for part in copy:
                        out.write(part)

    def rate(self) -> float:
        """Events per second: the rows of an event in both tables count once."""
        with closing(owner_connection(self._ledger)) as connection:
            for table in TABLES:
                connection.execute(_statement("DROP TABLE IF EXISTS {copied}", table))
                connection.execute(_statement("CREATE TABLE {copied} (LIKE {})", table))
            began = time.monotonic()
            with connection.cursor() as cursor:
                for table, file in self._files.items():
                    statement = _statement("COPY {copied} FROM STDIN (FORMAT binary)", table)
                    with file.open("rb") as rows, cursor.copy(statement) as copy:
                        while part := rows.read(_CHUNK):
                            copy.write(part)
            took = time.monotonic() - began
            for table in TABLES:
                connection.execute(_statement("DROP TABLE {copied}", table))
        return self._changes / took


def _statement(text: LiteralString, table: str) -> sql.Composed:
    copied = sql.Identifier(f"bench_{table}")
    return sql.SQL(text).format(sql.Identifier(table), copied=copied)


class Reading:
    """``tests.bench.reading`` in a process of its own, whose memory is nobody else's."""

    def __init__(self, ledger: Ledger, what: str) -> None:
        self._ledger, self._what = ledger, what
        self.peaks: list[float] = []

    def rate(self) -> float:
        """Events per second, without the start of the process; notes the peak memory in MiB."""
        where = {
            "LEDGER_DATABASE_URL": self._ledger.database_url,
            "LEDGER_DATA_DIR": str(self._ledger.config.data_dir),
        }
        said = subprocess.run(
            [sys.executable, "-m", "tests.bench.reading", *self._what.split()],
            check=True,
            stdout=subprocess.PIPE,
            cwd=CHECKOUT,
            env=os.environ | where,
        ).stdout
        figures = json.loads(said)
        self.peaks.append(figures["peak"])
        return float(figures["events"] / figures["seconds"])


def parsing_rate(ledger: Ledger, changes: int) -> float:
    """Events per second of ``json.loads``; fetching them is not timed."""
    took, position = 0.0, 0
    while True:
        with ledger.database.connection() as connection:
            page = eventlog.read_after(connection, PARTITION, position, _PAGE)
        if not page:
            return changes / took
        states = [event.state for event in page]
        began = time.perf_counter()
        for state in states:
            json.loads(state)
        took += time.perf_counter() - began
        position = page[-1].position
