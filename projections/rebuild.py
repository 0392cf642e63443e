"""Rebuilding a projection: fresh tables beside the old ones, which they replace at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from ledger import eventlog
from ledger.database import (
    PROJECTION_LOCK,
    Connection,
    Database,
    DatabaseError,
    as_ledger_error,
    is_passing,
    translated_errors,
)
from ledger.errors import ConfigError, Unavailable
from projections import cursors, follow
from projections.history import SettingsHistoryTable
from projections.workers import Workers

Progress = Callable[[int, int], None]
PAGE = 5000
CONNECTIONS = 2
"""At work at a time: each keeps one of the server's processors busy."""
REBUILDING = -1
"""Stands for a partition in the lock's key: one rebuild at a time."""
SWAP_ATTEMPTS = 100


@dataclass(frozen=True)
class Rebuilt:
    """How many events went into the fresh tables, and in how many seconds."""

    events: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Page:
    """The events of a partition behind ``after``, up to and with ``upto``."""

    partition: int
    after: int
    upto: int


def rebuild(
    owner: Database,
    history: SettingsHistoryTable,
    partitions: Sequence[int],
    progress: Progress | None = None,
) -> Rebuilt:
    """Fill fresh tables from the log and put them in place of the old ones.

    As their owner, since only an owner may: the serving role never needs to make or drop
    tables. Meanwhile the old tables are read and followed. The swap holds the cursors, as every
    follower does while it writes: whoever waits there finds cursors that stand for the fresh
    tables, and goes on in them. A rebuild that is killed leaves nothing but tables that the
    next one removes.
    """
    began = time.monotonic()
    with (
        closing(owner.connect("rebuild")) as connection,
        Workers(owner, CONNECTIONS) as workers,
        translated_errors(),
    ):
        _expect_owner(connection, history)
        _claim(connection)
        _run(connection, _DROP_FRESH)
        _run(connection, _CREATE_FRESH)
        filling = _Filling(connection, history, partitions, progress)
        filling.catch_up(workers)
        # Indexes are made at once over all rows: several times as fast as row by row.
        for query in (_INDEXES, _CONSTRAINTS, _ANALYZE):
            _run_all(workers, _statements(connection, query, history))
        _swap(connection, workers, history, filling)
        return Rebuilt(sum(filling.reached.values()), time.monotonic() - began)


class _Filling:
    """The fresh tables on their way to the head."""

    def __init__(
        self,
        connection: Connection,
        history: SettingsHistoryTable,
        partitions: Sequence[int],
        progress: Progress | None,
    ) -> None:
        self._connection = connection
        self._history = history
        self._progress = progress
        self.reached = dict.fromkeys(sorted(partitions), 0)

    def catch_up(self, workers: Workers) -> None:
        """Take on what the log has by now, several pages at a time."""
        while pages := self._pages():
            self._note(workers.do(partial(self._take, page) for page in pages), pages)

    def finish(self) -> None:
        """Take on the rest, in the transaction that holds the cursors."""
        while pages := self._pages():
            self._note((self._take(page, self._connection) for page in pages), pages)

    def _pages(self) -> list[Page]:
        """What the log has by now beyond what was reached."""
        return [
            Page(partition, after, min(after + PAGE, head))
            for partition, reached in self.reached.items()
            for head in [eventlog.head(self._connection, partition)]
            for after in range(reached, head, PAGE)
        ]

    def _take(self, page: Page, connection: Connection) -> Page:
        follow.prepare(connection)
        after = page.after
        while after < page.upto:
            upto = follow.readable(connection, page.partition, after, page.upto - after)
            self._history.apply_fresh(connection, page.partition, after, upto)
            after = upto
        return page

    def _note(self, taken: Iterable[Page], pages: Sequence[Page]) -> None:
        """Keep account of pages as they are taken, which they are in order."""
        heads = dict(self.reached) | {page.partition: page.upto for page in pages}
        for page in taken:
            self.reached[page.partition] = page.upto
            if self._progress is not None:
                self._progress(sum(self.reached.values()), sum(heads.values()))


def _expect_owner(connection: Connection, history: SettingsHistoryTable) -> None:
    row = connection.execute(
        "SELECT bool_and(pg_has_role(tableowner, 'USAGE')) AS owner FROM pg_tables "
        "WHERE schemaname = current_schema() AND tablename = ANY (%s)",
        (list(history.tables),),
    ).fetchone()
    if not row or not row["owner"]:
        raise ConfigError(
            "A rebuild needs the role that owns the tables: set LEDGER_MIGRATION_URL."
        )


def _claim(connection: Connection) -> None:
    row = connection.execute(
        "SELECT pg_try_advisory_lock(%s, %s) AS taken", (PROJECTION_LOCK, REBUILDING)
    ).fetchone()
    if not row or not row["taken"]:
        raise ConfigError("The projection is being rebuilt already; wait until that has ended.")


def _swap(
    connection: Connection, workers: Workers, history: SettingsHistoryTable, filling: _Filling
) -> None:
    """Replace the old tables; a long reader is waited for without holding up the others."""
    for _ in range(SWAP_ATTEMPTS):
        filling.catch_up(workers)
        reached = dict(filling.reached)
        try:
            with connection.transaction():
                # Less than deadlock_timeout: it is the swap that gives way.
                connection.execute("SET LOCAL lock_timeout = '500ms'")
                for partition in filling.reached:
                    cursors.hold(connection, history.name, partition)
                filling.finish()
                _replace(connection, history)
                for partition, position in filling.reached.items():
                    cursors.move(connection, history.name, partition, position)
            return
        except DatabaseError as error:
            if not is_passing(error):
                raise as_ledger_error(error) from error
            # What finish() took on was rolled back.
            filling.reached = reached
    raise Unavailable("The rebuilt tables cannot take the old ones' place: somebody reads them on.")


def _replace(connection: Connection, history: SettingsHistoryTable) -> None:
    _run(connection, "LOCK TABLE settings_history, settings_history_fields")
    for statement in _statements(connection, _REPLACEMENTS, history):
        _run(connection, statement)


def _run(connection: Connection, statement: str) -> None:
    connection.execute(statement.encode())


def _run_all(workers: Workers, statements: Iterable[str]) -> None:
    for _ in workers.do(partial(_run, statement=statement) for statement in statements):
        pass


def _statements(connection: Connection, query: str, history: SettingsHistoryTable) -> list[str]:
    """Statements that the catalogue of this very database gives, quoted by it."""
    rows = connection.execute(query.encode(), {"tables": list(history.tables)})
    return [row["statement"] for row in rows]


_DROP_FRESH = "DROP TABLE IF EXISTS settings_history_fresh, settings_history_fields_fresh"
_CREATE_FRESH = """
CREATE TABLE settings_history_fresh (LIKE settings_history INCLUDING ALL EXCLUDING INDEXES);
CREATE TABLE settings_history_fields_fresh
    (LIKE settings_history_fields INCLUDING ALL EXCLUDING INDEXES);
"""
# Whatever indexes and privileges the old tables have by now, the fresh ones get the same. Those
# of constraints are made as indexes first, since a table can get several of these at a time.
_INDEXES = """
SELECT format(
    'CREATE %%s %%I ON %%I USING %%s',
    CASE WHEN indisunique THEN 'UNIQUE INDEX' ELSE 'INDEX' END,
    index.relname || '_fresh', home.relname || '_fresh',
    substring(pg_get_indexdef(index.oid) FROM ' USING (.*)$')) AS statement
FROM pg_index
JOIN pg_class AS index ON index.oid = indexrelid
JOIN pg_class AS home ON home.oid = indrelid
WHERE home.relname = ANY (%(tables)s) AND home.relnamespace = current_schema()::regnamespace
ORDER BY index.relname
"""
_CONSTRAINTS = """
SELECT format(
    'ALTER TABLE %%I ADD CONSTRAINT %%I %%s USING INDEX %%I',
    home.relname || '_fresh', index.relname || '_fresh',
    CASE contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END,
    index.relname || '_fresh') AS statement
FROM pg_constraint
JOIN pg_class AS index ON index.oid = conindid
JOIN pg_class AS home ON home.oid = conrelid
WHERE home.relname = ANY (%(tables)s) AND home.relnamespace = current_schema()::regnamespace
  AND contype IN ('p', 'u')
ORDER BY index.relname
"""
_ANALYZE = """
SELECT format('ANALYZE %%I', name || '_fresh') AS statement FROM unnest(%(tables)s::text[]) AS name
"""
_REPLACEMENTS = """
WITH old AS (
    SELECT oid, relname, relacl FROM pg_class
    WHERE relname = ANY (%(tables)s) AND relnamespace = current_schema()::regnamespace
), statements (step, statement) AS (
    SELECT 1, format('GRANT %%s ON %%I TO %%s', allowed.privilege_type, relname || '_fresh',
        CASE allowed.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(allowed.grantee)) END)
    FROM old CROSS JOIN aclexplode(relacl) AS allowed
    WHERE pg_get_userbyid(allowed.grantee) <> current_user
    UNION ALL
    SELECT 2, format('DROP TABLE %%I', relname) FROM old
    UNION ALL
    SELECT 3, format('ALTER TABLE %%I RENAME TO %%I', relname || '_fresh', relname) FROM old
    UNION ALL
    SELECT 4, format('ALTER INDEX %%I RENAME TO %%I', index.relname || '_fresh', index.relname)
    FROM old JOIN pg_index ON indrelid = old.oid JOIN pg_class AS index ON index.oid = indexrelid
)
SELECT statement FROM statements ORDER BY step, statement
"""
