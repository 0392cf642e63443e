"""Connections and transactions: psycopg's errors end here, and nothing half done stays."""

# A block that fails is the matter of these tests: a block is a transaction.
# ruff: noqa: PT012

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from psycopg import conninfo, errors

from ledger.database import (
    PARTITION_LOCK,
    Database,
    columns_of,
    is_lost,
    is_passing,
    lock_partition,
    lock_partition_shared,
    translated_errors,
)
from ledger.errors import ChangeRefused, ConfigError, DatabaseUnavailable, LedgerError

if TYPE_CHECKING:
    from conftest import TestDatabase

INSERT = "INSERT INTO ledger_facts (name, value) VALUES (%s, 'x')"
COUNT = "SELECT count(*) AS found FROM ledger_facts WHERE name = %s"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database(database_url, pool_size=2, connect_timeout=2) as database:
        yield database


def stored(database: Database, name: str) -> int:
    with database.connection() as connection:
        row = connection.execute(COUNT, (name,)).fetchone()
    assert row is not None
    return int(row["found"])


# --- URLs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hush%zz@host/db",
        "postgresql://me:hush@[::1/db",
        "postgresql://me:hush@host/db?hush",
        "postgresql://me:hush@host/db?hush=1",
        "hush",
        "host=h password='hush",
        "mysql://me:hush@host/db",
    ],
)
def test_a_url_that_cannot_be_understood_is_not_repeated(url: str) -> None:
    """The error says what was expected and nothing of what was given: it may hold a password."""
    with pytest.raises(ConfigError, match="expected postgresql://user:password@") as caught:
        Database(url)
    assert "hush" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_nothing_is_connected_before_it_is_used() -> None:
    """A Database can be made for a server that is not there yet, and closed again."""
    with Database("postgresql://nobody@127.0.0.1:1/none"):
        pass


# --- errors are translated ---------------------------------------------------------------------


def test_an_unreachable_server_is_unavailable_and_says_why() -> None:
    """Pooled or not, the error names the refusal in one line, and no password."""
    with Database("postgresql://me:hush@127.0.0.1:1/none", connect_timeout=1) as database:
        with pytest.raises(DatabaseUnavailable, match="refused") as caught:
            database.connect("test")
        with pytest.raises(DatabaseUnavailable, match="refused") as pooled, database.connection():
            pass
    for said in (str(caught.value), str(pooled.value)):
        assert "hush" not in said
        assert "\n" not in said


def test_a_database_that_does_not_exist_is_named(database_url: str) -> None:
    """A wrong name is the server's own answer, at once."""
    url = conninfo.make_conninfo(database_url, dbname="no_such_database")
    with (
        Database(url) as database,
        pytest.raises(DatabaseUnavailable, match='"no_such_database" does not exist'),
    ):
        database.connect("test")


def test_missing_tables_name_the_command_that_makes_them(empty_database: TestDatabase) -> None:
    """A database that was never migrated is a ConfigError with the way out."""
    with (
        Database(empty_database.server_url) as database,
        pytest.raises(ConfigError, match="run `settings-ledger migrate`"),
        database.connection() as connection,
    ):
        connection.execute("SELECT 1 FROM events")


def test_a_missing_privilege_is_named(database: Database) -> None:
    """What the serving role may not do is a ConfigError with the server's words."""
    with (
        pytest.raises(ConfigError, match="lacks a privilege: permission denied for table events"),
        database.connection() as connection,
    ):
        connection.execute("DELETE FROM events")


def test_what_the_database_refuses_is_a_refused_change(database: Database) -> None:
    """A broken constraint says that nothing was recorded, in the server's words."""
    name = str(uuid4())
    with pytest.raises(ChangeRefused, match="duplicate key"), database.connection() as connection:
        connection.execute(INSERT, (name,))
        connection.execute(INSERT, (name,))
    assert stored(database, name) == 0


def test_a_busy_pool_is_not_mistaken_for_a_dead_server(database_url: str) -> None:
    """With every connection lent out the error says so, after a bounded wait."""
    with (
        Database(database_url, pool_size=1, connect_timeout=1) as database,
        database.connection(),
        pytest.raises(DatabaseUnavailable, match="came free in time"),
        database.connection(),
    ):
        pass


def test_every_error_of_psycopg_becomes_one_of_the_ledgers() -> None:
    """Whatever psycopg raises, a caller sees a LedgerError, with the original as its cause."""
    for sqlstate in (
        "08006",
        "40001",
        "42501",
        "42P01",
        "42703",
        "23505",
        "22P02",
        "57P01",
        "XX000",
    ):
        original = errors.lookup(sqlstate)("said")
        with pytest.raises(LedgerError) as caught, translated_errors():
            raise original
        assert caught.value.__cause__ is original
    with pytest.raises(DatabaseUnavailable), translated_errors():
        raise psycopg.InterfaceError("the connection is closed")


def test_other_errors_pass_through() -> None:
    """A mistake of the program keeps its own name."""
    with pytest.raises(KeyError), translated_errors():
        raise KeyError("x")


@pytest.mark.parametrize(
    ("error", "lost", "passing"),
    [
        (errors.AdminShutdown(), True, False),
        (errors.CrashShutdown(), True, False),
        (errors.CannotConnectNow(), True, False),
        (errors.IdleSessionTimeout(), True, False),
        (errors.IdleInTransactionSessionTimeout(), True, False),
        (errors.ConnectionFailure(), True, False),
        (psycopg.OperationalError("server closed the connection unexpectedly"), True, False),
        (psycopg.InterfaceError("the connection is closed"), True, False),
        (errors.SerializationFailure(), False, True),
        (errors.DeadlockDetected(), False, True),
        (errors.QueryCanceled(), False, True),
        (errors.UniqueViolation(), False, False),
        (errors.InsufficientPrivilege(), False, False),
        (ValueError(), False, False),
    ],
)
def test_lost_connections_are_told_from_refusals(
    error: Exception, lost: bool, passing: bool
) -> None:
    """Only where no answer came is the outcome unknown; only some refusals pass by themselves."""
    assert (is_lost(error), is_passing(error)) == (lost, passing)


# --- transactions ------------------------------------------------------------------------------


def test_a_block_is_one_transaction(database: Database) -> None:
    """What was done is there after the block, all of it, and to nobody before."""
    name = str(uuid4())
    with database.connection() as connection:
        connection.execute(INSERT, (name,))
        assert stored(database, name) == 0
    assert stored(database, name) == 1


def test_an_error_rolls_the_block_back(database: Database) -> None:
    """Whatever is raised inside, nothing of the block stays, and the pool goes on."""
    name = str(uuid4())
    with pytest.raises(RuntimeError), database.connection() as connection:
        connection.execute(INSERT, (name,))
        raise RuntimeError
    assert stored(database, name) == 0


def test_rows_come_by_name(database: Database) -> None:
    """A row is read by its columns' names, pooled or not."""
    with database.connection() as pooled:
        assert pooled.execute("SELECT 1 AS one, 2 AS two").fetchone() == {"one": 1, "two": 2}
    with database.connect("test") as own:
        assert own.execute("SELECT 1 AS one").fetchone() == {"one": 1}


def test_a_connection_of_ones_own_commits_each_statement(database: Database) -> None:
    """``connect`` gives autocommit, and its purpose shows in pg_stat_activity."""
    name = str(uuid4())
    with database.connect("test of mine", options="-c statement_timeout=1234") as connection:
        connection.execute(INSERT, (name,))
        assert stored(database, name) == 1
        assert connection.execute("SHOW application_name").fetchone() == {
            "application_name": "settings-ledger test of mine"
        }
        assert connection.execute("SHOW statement_timeout").fetchone() == {
            "statement_timeout": "1234ms"
        }


def test_options_of_the_url_are_kept(database_url: str) -> None:
    """Server settings given in the URL hold beside those of the purpose."""
    url = conninfo.make_conninfo(database_url, options="-c lock_timeout=77")
    with (
        Database(url) as database,
        database.connect("test", options="-c statement_timeout=88") as connection,
    ):
        assert connection.execute("SHOW lock_timeout").fetchone() == {"lock_timeout": "77ms"}
        assert connection.execute("SHOW statement_timeout").fetchone() == {
            "statement_timeout": "88ms"
        }


# --- broken connections ------------------------------------------------------------------------


def backend(connection: psycopg.Connection[dict[str, int]]) -> int:
    row = connection.execute("SELECT pg_backend_pid() AS pid").fetchone()
    assert row is not None
    return row["pid"]


def test_the_pool_survives_terminated_backends(
    shared_database: TestDatabase, database: Database
) -> None:
    """Connections that were killed while they rested are replaced before they are lent again."""
    with database.connection() as one, database.connection() as other:
        resting = [backend(one), backend(other)]
    with psycopg.connect(shared_database.admin_url, autocommit=True) as admin:
        for pid in resting:
            # Waits until the backend is gone.
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    for _ in range(3):
        with database.connection() as connection:
            assert backend(connection) not in resting


def test_a_backend_killed_at_work_is_unavailable(
    shared_database: TestDatabase, database: Database
) -> None:
    """Killed in the middle, the block fails as unavailable, and the next one works."""
    name = str(uuid4())
    with (
        pytest.raises(DatabaseUnavailable, match="terminating connection"),
        database.connection() as connection,
    ):
        connection.execute(INSERT, (name,))
        with psycopg.connect(shared_database.admin_url, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (backend(connection),))
        connection.execute("SELECT 1")
    assert stored(database, name) == 0


def test_a_closed_database_is_unavailable(database_url: str) -> None:
    """After close nothing is lent any more, and that is a plain error."""
    database = Database(database_url)
    with database.connection():
        pass
    database.close()
    with pytest.raises(DatabaseUnavailable), database.connection():
        pass


def test_threads_share_one_pool(database: Database) -> None:
    """The first use from many threads at once opens one pool, and serves them all."""
    answers: list[int] = []

    def ask() -> None:
        with database.connection() as connection:
            answers.append(backend(connection))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert len(set(answers)) <= 2


# --- the partition's lock ------------------------------------------------------------------------


def locks(database: Database, mode: str) -> list[tuple[int, bool]]:
    with database.connection() as connection:
        rows = connection.execute(
            "SELECT objid::bigint AS partition, granted FROM pg_locks "
            "WHERE locktype = 'advisory' AND classid = %s AND mode = %s "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            "ORDER BY 1",
            (PARTITION_LOCK, mode),
        ).fetchall()
    return [(row["partition"], row["granted"]) for row in rows]


def test_a_partitions_writer_is_alone_until_its_transaction_ends(
    fresh_database: Callable[[], TestDatabase],
) -> None:
    """The lock shuts out writers and shared holders of that partition, and of no other."""
    with (
        Database(fresh_database().server_url) as database,
        database.connect("holder") as holder,
        database.connect("other", options="-c lock_timeout=50") as other,
    ):
        with holder.transaction():
            lock_partition(holder, 3)
            assert locks(database, "ExclusiveLock") == [(3, True)]
            for lock in (lock_partition, lock_partition_shared):
                with pytest.raises(errors.LockNotAvailable), other.transaction():
                    lock(other, 3)
            with other.transaction():
                lock_partition(other, 4)
        assert locks(database, "ExclusiveLock") == []
        with holder.transaction(), other.transaction():
            lock_partition_shared(holder, 3)
            lock_partition_shared(other, 3)
            assert locks(database, "ShareLock") == [(3, True), (3, True)]


def test_a_peer_that_vanished_is_noticed(database_url):
    """Pooled connections and others look for a peer that is gone; the URL's own wish goes first."""
    chosen = conninfo.make_conninfo(database_url, tcp_user_timeout="7000")
    for url, milliseconds in ((database_url, "25000"), (chosen, "7000")):
        with Database(url) as database:
            own = database.connect("test")
            with own, database.connection() as pooled:
                for connection in (own, pooled):
                    parameters = connection.info.get_parameters()
                    assert parameters["tcp_user_timeout"] == milliseconds
                    assert parameters["keepalives_idle"] == "10"


@dataclass(frozen=True)
class Place:
    """What a query is asked for."""

    partition: int
    position: int


def test_rows_by_place_are_those_that_were_named(database: Database):
    """A query whose columns stand in another order, or are others, never becomes a row."""
    with database.connection() as connection:
        cursor = connection.cursor(row_factory=columns_of(Place))
        rows = cursor.execute("SELECT 1 AS partition, n AS position FROM generate_series(2, 3) n")
        assert rows.fetchall() == [Place(1, 2), Place(1, 3)]
        assert cursor.execute("SELECT 1 AS partition, 2 AS position WHERE false").fetchall() == []
        cursor.execute("SET LOCAL work_mem = '8MB'")
        for wrong in (
            "SELECT 1 AS position, 2 AS partition",
            "SELECT 1 AS partition",
            "SELECT 1 AS partition, 2 AS position, 3 AS more",
        ):
            with pytest.raises(TypeError, match="Place has the fields"):
                cursor.execute(wrong.encode()).fetchall()
