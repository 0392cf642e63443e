"""The schema, brought up to date from numbered .sql files, and who may do what in it."""

from __future__ import annotations

import hashlib
import importlib.resources
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path

import psycopg
from psycopg import sql

from ledger.database import MIGRATION_LOCK, Connection, Database, translated_errors
from ledger.errors import ConfigError, InvalidInput, SchemaOutdated

FILE_NAME = re.compile(r"(\d{4})_[a-z0-9]+(?:_[a-z0-9]+)*\.sql")
ALONE = "-- no transaction"
"""First line of a file whose one statement cannot run within a transaction."""
OLDEST_SERVER = 15
PULSE = 0.05

# What the serving role may do with each of the ledger's tables; no other table is ever touched.
# A rebuild of a projection puts tables of the same names in place, with the same privileges.
_ORDINARY = ("SELECT", "INSERT", "UPDATE", "DELETE")
PRIVILEGES: Mapping[str, Sequence[str]] = {
    "partitions": ("SELECT",),
    "schema_migrations": ("SELECT",),
    "events": ("SELECT", "INSERT"),
    **dict.fromkeys(("actors", "reasons", "idempotency_keys", "current_settings"), _ORDINARY),
    **dict.fromkeys(("ledger_facts", "sites", "apps", "app_secrets", "signing_keys"), _ORDINARY),
    **dict.fromkeys(("api_keys", "installations", "subscriptions"), _ORDINARY),
    **dict.fromkeys(("subscription_spans", "delivery_cursors", "delivery_lanes"), _ORDINARY),
    **dict.fromkeys(("dead_letters", "delivery_policies", "delivery_pauses"), _ORDINARY),
    **dict.fromkeys(("delivery_replays", "publishers", "delivery_breakers"), _ORDINARY),
    **dict.fromkeys(("settings_history", "settings_history_fields"), _ORDINARY),
    **dict.fromkeys(("projection_cursors", "delivery_attempts"), _ORDINARY),
    "subscription_certificates": _ORDINARY,
    **dict.fromkeys((f"delivery_attempts_{slot:02}" for slot in range(32)), _ORDINARY),
}

_WRITING = ("read_surroundings", "append_events", "apply_current_settings")
CALLED_BY_WHO_SERVES = ("forget_delivery_attempts", *_WRITING)
"""Functions that the serving role may call, also where PUBLIC is granted none by default."""

_REGISTER = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        number     integer PRIMARY KEY,
        name       text NOT NULL,
        checksum   text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
"""


@dataclass(frozen=True)
class Migration:
    """One step of the schema: a file ``NNNN_name.sql``, and the SHA-256 of its bytes in hex."""

    number: int
    name: str
    sql: str
    checksum: str

    @property
    def alone(self) -> bool:
        """Whether it runs outside any transaction, as CREATE INDEX CONCURRENTLY must."""
        return self.sql.startswith(ALONE)


def migrations(directory: Traversable | None = None) -> list[Migration]:
    """All steps in order, from the wheel's copy (``ledger/sql``) or the checkout beside it.

    Raises ConfigError for a name that is not ``NNNN_name.sql``, a gap or a duplicate number.
    """
    source = directory or _shipped()
    found = []
    for file in sorted(source.iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".sql"):
            continue
        name = FILE_NAME.fullmatch(file.name)
        if name is None:
            raise ConfigError(
                f"The migration {file.name} must be named like 0001_what_it_does.sql."
            )
        content = file.read_bytes()
        checksum = hashlib.sha256(content).hexdigest()
        found.append(Migration(int(name[1]), file.name, content.decode(), checksum))
    for expected, migration in enumerate(found, start=1):
        if migration.number != expected:
            raise ConfigError(
                f"The migrations must be numbered without gap or duplicate: {migration.name} "
                f"stands where number {expected:04} belongs."
            )
    if not found:
        raise ConfigError("The ledger was installed without its migrations: install it again.")
    return found


def _shipped() -> Traversable:
    packaged = importlib.resources.files("ledger").joinpath("sql")
    if packaged.is_dir():
        return packaged
    return Path(__file__).resolve().parents[1] / "migrations"


def migrate(
    owner_url: str,
    *,
    serving_role: str | None = None,
    partitions: int | None = None,
    directory: Traversable | None = None,
) -> list[str]:
    """Apply what is missing, and return the names of the files applied.

    Any number of processes may call this at once; one works and the others wait. ``serving_role``
    is then given exactly the privileges that serving needs, and ``partitions`` raises the number
    of partitions. Raises ConfigError (SchemaOutdated for a file edited after it was applied),
    InvalidInput for fewer partitions than there are, DatabaseUnavailable.
    """
    files = migrations(directory)
    with (
        translated_errors(),
        Database(owner_url) as database,
        database.connect("migrate") as connection,
    ):
        _check_server(connection)
        _lock(connection)
        connection.execute(_REGISTER)
        missing = _missing(connection, files)
        for migration in missing:
            _apply(connection, migration)
        if partitions is not None:
            _raise_partitions(connection, partitions)
        if serving_role is not None:
            _set_privileges(connection, serving_role)
    return [migration.name for migration in missing]


def check_schema(connection: Connection) -> None:
    """Raise SchemaOutdated unless every migration of this program was applied.

    A database that a newer program migrated is a ConfigError, and so is a role without
    privileges; DatabaseUnavailable where the connection breaks. The serving role may call this.
    """
    files = migrations()
    with translated_errors():
        _check_server(connection)
        known = connection.execute(
            "SELECT to_regclass('schema_migrations') IS NOT NULL AS there"
        ).fetchone()
        missing = _missing(connection, files) if known and known["there"] else files
    if missing:
        raise SchemaOutdated(
            f"The database lacks {_listed(missing)}: run `settings-ledger migrate`."
        )


def _check_server(connection: Connection) -> None:
    major = connection.info.server_version // 10_000
    if major < OLDEST_SERVER:
        raise ConfigError(
            f"The database is PostgreSQL {major}; the ledger needs {OLDEST_SERVER} or later."
        )


def _lock(connection: Connection) -> None:
    """Be the only one who migrates until the connection closes.

    By asking again and again: a session that waits inside a blocking lock holds a snapshot,
    and CREATE INDEX CONCURRENTLY waits for snapshots, so the two would wait for each other.
    """
    while True:
        row = connection.execute(
            "SELECT pg_try_advisory_lock(%s, 0) AS taken", (MIGRATION_LOCK,)
        ).fetchone()
        if row and row["taken"]:
            return
        time.sleep(PULSE)


def _missing(connection: Connection, files: Sequence[Migration]) -> list[Migration]:
    """The files not yet applied, after comparing those that were."""
    by_number = {file.number: file for file in files}
    rows = connection.execute(
        "SELECT number, name, checksum FROM schema_migrations ORDER BY number"
    ).fetchall()
    for row in rows:
        file = by_number.pop(row["number"], None)
        if file is None:
            raise ConfigError(
                f"The database was migrated by a newer program ({row['name']}): upgrade "
                "settings-ledger."
            )
        if file.checksum != row["checksum"]:
            raise SchemaOutdated(
                f"The migration {file.name} was changed after it had been applied to this "
                "database: put the file back as it was, and make the change in a new one."
            )
    return list(by_number.values())


def _apply(connection: Connection, migration: Migration) -> None:
    try:
        if migration.alone:
            _run(connection, migration)
            _register(connection, migration)
            return
        with connection.transaction():
            _run(connection, migration)
            _register(connection, migration)
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise ConfigError(
            f"The migration {migration.name} failed, and nothing of it remains: "
            f"{error.diag.message_primary or error}."
        ) from error


def _run(connection: Connection, migration: Migration) -> None:
    # A file of this program is as trusted as its source; nothing is put into it.
    connection.execute(migration.sql.encode())


def _register(connection: Connection, migration: Migration) -> None:
    connection.execute(
        "INSERT INTO schema_migrations (number, name, checksum) VALUES (%s, %s, %s)",
        (migration.number, migration.name, migration.checksum),
    )


def _raise_partitions(connection: Connection, wanted: int) -> None:
    with connection.transaction():
        rows = connection.execute("SELECT partition FROM partitions").fetchall()
        if wanted < len(rows):
            raise InvalidInput(
                "partitions",
                f"there are {len(rows)} already, and a partition that holds sites cannot be "
                f"taken away; {wanted} is too few.",
            )
        connection.execute(
            "INSERT INTO partitions (partition) SELECT generate_series(0, %s - 1) "
            "ON CONFLICT DO NOTHING",
            (wanted,),
        )


def _set_privileges(connection: Connection, role: str) -> None:
    """Give ``role`` what serving needs and take the rest, unless it is the owner itself."""
    with connection.transaction():
        row = connection.execute(
            "SELECT current_user = %(role)s AS owner, "
            "EXISTS (SELECT FROM pg_roles WHERE rolname = %(role)s) AS known",
            {"role": role},
        ).fetchone()
        if row and row["owner"]:
            return
        if not row or not row["known"]:
            raise ConfigError(f"The database has no role {role} to serve: create it first.")
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables "
            "WHERE schemaname = current_schema() AND tablename = ANY (%s) ORDER BY tablename",
            (list(PRIVILEGES),),
        ).fetchall()
        for statement in _grants(role, tables):
            connection.execute(statement)
        functions = connection.execute(
            "SELECT nspname, proname FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace "
            "WHERE nspname = current_schema() AND proname = ANY (%s)",
            (list(CALLED_BY_WHO_SERVES),),
        ).fetchall()
        for function in functions:
            name = sql.Identifier(function["nspname"], function["proname"])
            grant = sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}")
            connection.execute(grant.format(name, sql.Identifier(role)))


def _grants(role: str, tables: Sequence[Mapping[str, str]]) -> Iterable[sql.Composed]:
    to = sql.Identifier(role)
    for name in {table["schemaname"] for table in tables}:
        schema = sql.Identifier(name)
        yield sql.SQL("REVOKE CREATE ON SCHEMA {} FROM PUBLIC, {}").format(schema, to)
        yield sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, to)
    for table in tables:
        allowed = sql.SQL(", ").join(map(sql.SQL, PRIVILEGES[table["tablename"]]))
        one = sql.Identifier(table["schemaname"], table["tablename"])
        yield sql.SQL("REVOKE ALL ON {} FROM PUBLIC, {}").format(one, to)
        yield sql.SQL("GRANT {} ON {} TO {}").format(allowed, one, to)


def _listed(missing: Sequence[Migration]) -> str:
    first = missing[0].name
    return first if len(missing) == 1 else f"{first} and {len(missing) - 1} more migrations"
