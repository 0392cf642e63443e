"""rebuild: the history made anew beside a COPY of its rows; replay and export beside parsing the
JSON of the same events and nothing else, and beside a COPY of them to a client that looks at none."""

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
from ledger.database import Connection
from tests.bench import generator
from tests.bench.generator import PARTITION, owner_connection
from tests.bench.measure import Baseline, Comparison, contest

SCENARIO = "rebuild"
GOAL = 0.3
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
    copying = RowCopy(ledger, directory, changes)
    bare, indexed = contest(
        SCENARIO,
        "rebuild, events",
        ours=lambda: _rebuild_rate(ledger),
        baselines=[
            Baseline("COPY of the same rows, no index", copying.rate, GOAL),
            Baseline("COPY of the same rows, then the same indexes", copying.indexed_rate, GOAL),
        ],
        rounds=rounds,
        warm_up=False,
    )
    yield from (bare, indexed)
    bound = f"the least that is wanted, {LEAST_RATE:,}"
    yield replace(bare, baseline=bound, theirs=LEAST_RATE, goal=1.0)
    for what in WHAT:
        yield from _compare_reading(ledger, what, changes, rounds)


def _rebuild_rate(ledger: Ledger) -> float:
    done = ledger.projections.rebuild("settings_history")
    return done.events / done.seconds


def _compare_reading(ledger: Ledger, what: str, changes: int, rounds: int) -> Iterator[Comparison]:
    reading = Reading(ledger, what)
    yield from contest(
        SCENARIO,
        f"{what}, events",
        ours=reading.rate,
        baselines=[
            Baseline("JSON parsing alone", lambda: parsing_rate(ledger, changes), GOAL),
            Baseline("COPY of the same events", lambda: events_copy_rate(ledger, changes), GOAL),
        ],
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


class RowCopy:
    """The rows of the history in files, copied into tables that have no index yet."""

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
        return self._changes / self._seconds(indexed=False)

    def indexed_rate(self) -> float:
        """The same with the history's own indexes made at the end, as a restored dump does it."""
        return self._changes / self._seconds(indexed=True)

    def _seconds(self, *, indexed: bool) -> float:
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
            for statement in self._indexes(connection) if indexed else ():
                connection.execute(statement)
            took = time.monotonic() - began
            for table in TABLES:
                connection.execute(_statement("DROP TABLE {copied}", table))
        return took

    def _indexes(self, connection: Connection) -> list[bytes]:
        rows = connection.execute(_INDEXES, (list(TABLES),)).fetchall()
        return [row["statement"].encode() for row in rows]


_INDEXES = """
SELECT format('CREATE %%s ON %%I USING %%s',
    CASE WHEN indisunique THEN 'UNIQUE INDEX' ELSE 'INDEX' END,
    'bench_' || home.relname, substring(pg_get_indexdef(indexrelid) FROM ' USING (.*)$')
) AS statement
FROM pg_index JOIN pg_class AS home ON home.oid = indrelid
WHERE home.relname = ANY (%s) ORDER BY indexrelid
"""


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


def events_copy_rate(ledger: Ledger, changes: int) -> float:
    """Events per second of a binary COPY of the log to this process, which drops what it gets."""
    with closing(owner_connection(ledger)) as connection, connection.cursor() as cursor:
        began = time.monotonic()
        with cursor.copy("COPY events TO STDOUT (FORMAT binary)") as copy:
            for _ in copy:
                pass
        return changes / (time.monotonic() - began)


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
