"""The migrations, and the walls that they leave standing around the log."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import conninfo, errors
from psycopg.rows import dict_row

from ledger import Ledger
from ledger.database import MIGRATION_LOCK, Database
from ledger.errors import ConfigError, DatabaseUnavailable, InvalidInput, SchemaOutdated
from ledger.migrate import FILE_NAME, PRIVILEGES, check_schema, migrate, migrations

if TYPE_CHECKING:
    from conftest import TestDatabase

ROLE = "ledger_server"
MIGRATIONS = Path(__file__).parents[1] / "migrations"

# The SHA-256 of each file that has landed: add a line for a new file, and change no other.
LANDED = {
    "0001_log.sql": "cff8ed4c052f19fe0422778cf821e79554e89fb656b2bf1627dfaa506499509e",
    "0002_directory.sql": "0434154769d7423356d8bfd881a3011d044f1851a1ce47304c493f0243c43605",
    "0003_publisher.sql": "2e6e73debc30b0ae633ec2824bdb4338b4548645d78e549572ff28ec696776aa",
    "0004_history.sql": "fbe3f3c329366aaf5c6fb9c4463ccf451b6e49b5912b9477e7c9f92da6dce711",
    "0005_credentials.sql": "47bcab10dee067ada2508152168a9557cf2894c8ccb56a26fb394024fc9892a3",
    "0006_delivery.sql": "9523faffeabaf65837416abe606fc9b45d0d8bdfcf33ad93229e3f698359425b",
    "0007_actor_identity.sql": "54e7053e8f333c637828358f0665e10b5465a66995894cb63887ea32533010b2",
    "0008_append.sql": "55ccf98bd222a0058bd2abb66bb3209a3e9639dd10d5629167a6c7619b344053",
    "0009_client_certificates.sql": "6f7e25de26c4d1b759dd10dfc4c974adbb8c03ffa0237892eb2d41757a838a06",
    "0010_attempt_batches.sql": "1f43981036378196b13fd83d81faab8a0cbac70b04469c9f4a22be4f48caf30d",
    "0011_surroundings.sql": "f4e43f3a66717e497b9a9dd03225fdb7b3ac442363bf222c219fce94fb03632d",
    "0012_append_in_place.sql": "a5dd18c19a8cf1dbd515b4a365f7fa1240d4a3f67d95350dc6bd9784f896c24b",
    "0013_room_to_change.sql": "e5a27fbde3e6cbbcd5fb99457dd54d639fa7bb8c4b9a552b9e0343913cc7e25d",
}

# What a schema is, as far as two of them can be compared.
COLUMNS = """
    SELECT table_name, column_name, data_type, is_nullable, column_default
    FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, ordinal_position
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2
"""
INDEXES = "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2"
TRIGGERS = "SELECT tgname, tgenabled, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal"
GRANTED = """
    SELECT relname, relacl::text FROM pg_class
    WHERE relnamespace = 'public'::regnamespace ORDER BY 1
"""
APPLIED = "SELECT number, name, checksum, applied_at FROM schema_migrations ORDER BY number"


def ask(url: str, statement: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def schema(url: str) -> list[Any]:
    questions = (COLUMNS, CONSTRAINTS, INDEXES, TRIGGERS, GRANTED)
    return [ask(url, question) for question in questions]


def write(directory: Path, **files: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name, content in files.items():
        (directory / f"{name.removeprefix('m')}.sql").write_text(content)
    return directory


def test_every_file_is_named_by_number_and_purpose_and_opens_with_why() -> None:
    """Every migration follows the pattern and begins with a comment."""
    for file in MIGRATIONS.glob("*.sql"):
        assert FILE_NAME.fullmatch(file.name)
        assert file.read_text().startswith("-- ")


def test_all_files_of_the_checkout_are_found_in_order() -> None:
    """The program sees every .sql file of migrations/, by number."""
    found = migrations()
    assert [file.name for file in found] == sorted(file.name for file in MIGRATIONS.glob("*.sql"))
    assert [file.number for file in found] == list(range(1, len(found) + 1))


def test_what_has_landed_is_never_edited() -> None:
    """What has landed is never edited: databases hold its checksum. Make a new file instead."""
    assert {file.name: file.checksum for file in migrations()} == LANDED


@pytest.mark.parametrize(
    "names",
    [("m0001_a", "m0003_c"), ("m0001_a", "m0001_b"), ("m0002_a",), ("m0001_a", "m2_b"), ()],
    ids=["gap", "duplicate", "no first", "odd name", "none"],
)
def test_gaps_duplicates_and_odd_names_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Files that cannot be put in one order are refused before anything is applied."""
    with pytest.raises(ConfigError):
        migrations(write(tmp_path / "sql", **dict.fromkeys(names, "SELECT 1")))


def test_a_second_run_changes_nothing(empty_database: TestDatabase) -> None:
    """Migrating twice applies nothing anew and leaves the same schema."""
    applied = migrate(empty_database.owner_url, serving_role=ROLE)
    assert applied == [file.name for file in migrations()]
    before, rows = schema(empty_database.owner_url), ask(empty_database.owner_url, APPLIED)
    assert migrate(empty_database.owner_url, serving_role=ROLE) == []
    assert schema(empty_database.owner_url) == before
    assert ask(empty_database.owner_url, APPLIED) == rows


def test_a_schema_grown_step_by_step_equals_a_fresh_one(
    empty_database: TestDatabase, shared_database: TestDatabase, tmp_path: Path
) -> None:
    """Stopping after each file on the way leads to the same schema as one run."""
    for file in migrations():
        write(tmp_path / "sql", **{file.name.removesuffix(".sql"): file.sql})
        applied = migrate(empty_database.owner_url, serving_role=ROLE, directory=tmp_path / "sql")
        assert applied == [file.name]
    assert schema(empty_database.owner_url) == schema(shared_database.owner_url)


def _migrate_and_report(url: str, reports: Any) -> None:
    try:
        reports.put(migrate(url, serving_role=ROLE, partitions=3))
    except Exception as error:  # noqa: BLE001 — the parent asserts on it
        reports.put(repr(error))


def test_many_processes_may_migrate_at_once(empty_database: TestDatabase) -> None:
    """Each file is applied once, by one of the processes, and none of them fails."""
    context = multiprocessing.get_context("spawn")
    reports = context.Queue()
    workers = [
        context.Process(target=_migrate_and_report, args=(empty_database.owner_url, reports))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    said = [reports.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    everything = [file.name for file in migrations()]
    assert sorted(said, key=len) == [[], [], [], everything]
    assert len(ask(empty_database.owner_url, "SELECT 1 AS one FROM partitions")) == 3


def test_an_index_built_concurrently_does_not_wait_for_those_who_wait(
    empty_database: TestDatabase, tmp_path: Path
) -> None:
    """A file outside transactions completes while another process waits for its turn."""
    write(
        tmp_path / "sql",
        m0001_table="CREATE TABLE things (n int)",
        m0002_index="-- no transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS i ON things (n)",
    )
    context = multiprocessing.get_context("spawn")
    with psycopg.connect(empty_database.owner_url, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s, 0)", (MIGRATION_LOCK,))
        workers = [
            context.Process(
                target=migrate,
                args=(empty_database.owner_url,),
                kwargs={"directory": tmp_path / "sql"},
            )
            for _ in range(3)
        ]
        for worker in workers:
            worker.start()
        asking = "SELECT FROM pg_stat_activity WHERE application_name = 'settings-ledger migrate'"
        deadline = time.monotonic() + 60
        while len(workers) > holder.execute(asking).rowcount:
            assert time.monotonic() < deadline
        holder.execute("SELECT pg_advisory_unlock(%s, 0)", (MIGRATION_LOCK,))
    for worker in workers:
        worker.join(timeout=60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(ask(empty_database.owner_url, APPLIED)) == 2


def test_a_file_edited_after_it_was_applied_is_refused_by_name(
    empty_database: TestDatabase, tmp_path: Path
) -> None:
    """A difference between a file and what was applied names the file."""
    files = write(tmp_path / "sql", m0001_first="CREATE TABLE things (n int)")
    migrate(empty_database.owner_url, directory=files)
    write(tmp_path / "sql", m0001_first="CREATE TABLE things (n bigint)")
    with pytest.raises(SchemaOutdated, match=r"0001_first\.sql was changed"):
        migrate(empty_database.owner_url, directory=files)


def test_a_file_that_fails_leaves_nothing_and_is_named(
    empty_database: TestDatabase, tmp_path: Path
) -> None:
    """A migration is applied whole or not at all, and those before it stay."""
    files = write(
        tmp_path / "sql",
        m0001_good="CREATE TABLE good (n int)",
        m0002_bad="CREATE TABLE half (n int); SELECT 1/0",
    )
    with pytest.raises(ConfigError, match=r"0002_bad\.sql failed.*division by zero"):
        migrate(empty_database.owner_url, directory=files)
    assert [row["name"] for row in ask(empty_database.owner_url, APPLIED)] == ["0001_good.sql"]
    there = ask(empty_database.owner_url, "SELECT to_regclass('half') AS half")
    assert there == [{"half": None}]


def test_a_database_newer_than_the_program_is_refused(
    fresh_database: Callable[[], TestDatabase],
) -> None:
    """A migration that this program does not know means that it is too old."""
    database = fresh_database()
    ask(
        database.owner_url,
        "INSERT INTO schema_migrations (number, name, checksum) VALUES (9999, '9999_x.sql', '')",
    )
    with pytest.raises(ConfigError, match=r"newer program \(9999_x\.sql\)"):
        migrate(database.owner_url)
    with (
        Database(database.server_url).connect("test") as connection,
        pytest.raises(ConfigError, match="newer program"),
    ):
        check_schema(connection)


def test_an_outdated_schema_names_the_command(
    empty_database: TestDatabase, shared_database: TestDatabase
) -> None:
    """The check passes on a migrated database and names the remedy on an empty one."""
    with Database(shared_database.server_url).connect("test") as connection:
        check_schema(connection)
    with (
        Database(empty_database.server_url).connect("test") as connection,
        pytest.raises(SchemaOutdated, match="settings-ledger migrate"),
    ):
        check_schema(connection)


def test_a_role_without_privileges_is_told_who_grants_them(empty_database: TestDatabase) -> None:
    """The check and whoever opens the library get one sentence that names the command."""
    migrate(empty_database.owner_url)
    said = "lacks a privilege: .*`settings-ledger migrate` grants"
    with (
        Database(empty_database.server_url).connect("test") as connection,
        pytest.raises(ConfigError, match=said),
    ):
        check_schema(connection)
    with pytest.raises(ConfigError, match=said):
        Ledger.open(database_url=empty_database.server_url)


def test_a_connection_that_breaks_while_the_schema_is_checked_is_unavailable(
    shared_database: TestDatabase,
) -> None:
    """The check says in the ledger's words that the database does not answer."""
    with Database(shared_database.server_url).connect("test") as connection:
        connection.close()
        with pytest.raises(DatabaseUnavailable):
            check_schema(connection)


def test_an_old_server_is_refused(
    shared_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server older than PostgreSQL 15 is refused by its number."""
    monkeypatch.setattr(psycopg.ConnectionInfo, "server_version", 140_011)
    with pytest.raises(ConfigError, match="is PostgreSQL 14; the ledger needs 15"):
        migrate(shared_database.owner_url)


def test_a_server_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    """No server at the URL is said as such."""
    with pytest.raises(DatabaseUnavailable):
        migrate(f"postgresql:///ledger?host={tmp_path}")


def test_partitions_are_added_and_never_taken_away(
    fresh_database: Callable[[], TestDatabase],
) -> None:
    """The number of partitions can be raised at any time, and lowering it is refused."""
    url = fresh_database().owner_url
    migrate(url, partitions=4)
    numbers = "SELECT partition FROM partitions ORDER BY partition"
    assert [row["partition"] for row in ask(url, numbers)] == [0, 1, 2, 3]
    with pytest.raises(InvalidInput, match="partitions: there are 4"):
        migrate(url, partitions=2)
    migrate(url)
    assert len(ask(url, numbers)) == 4


def test_an_unknown_serving_role_is_refused(fresh_database: Callable[[], TestDatabase]) -> None:
    """A role that is not there is named."""
    with pytest.raises(ConfigError, match="no role nobody_at_all"):
        migrate(fresh_database().owner_url, serving_role="nobody_at_all")


def test_the_owner_may_serve(fresh_database: Callable[[], TestDatabase]) -> None:
    """An installation with one role keeps that role's own privileges."""
    database = fresh_database()
    owner = ask(database.owner_url, "SELECT current_user AS name")[0]["name"]
    migrate(database.owner_url, serving_role=owner)
    assert ask(database.owner_url, "SELECT 1 AS one FROM events") == []


INSERT_EVENT = """
    INSERT INTO events VALUES
    (0, 1, gen_random_uuid(), 1, 'topic', '\\x7b7d', decode(repeat('00', 32), 'hex'))
"""
TAMPERING = [
    "UPDATE events SET topic = 'other'",
    "DELETE FROM events",
    "TRUNCATE events",
    "TRUNCATE events CASCADE",
    "MERGE INTO events USING (SELECT 1) AS one ON true WHEN MATCHED THEN DELETE",
]
TAKING_AWAY = [
    "ALTER TABLE events DISABLE TRIGGER ALL",
    "DROP TRIGGER events_are_never_altered ON events",
    "DROP TABLE events",
    "ALTER TABLE events OWNER TO CURRENT_USER",
    "CREATE TRIGGER mine BEFORE INSERT ON events EXECUTE FUNCTION refuse_to_rewrite_history()",
    "ALTER FUNCTION refuse_to_rewrite_history() OWNER TO CURRENT_USER",
    "CREATE TABLE mine (n int)",
    "SET session_replication_role = replica",
    "INSERT INTO partitions VALUES (77)",
    "DELETE FROM schema_migrations",
]


@pytest.fixture
def written(fresh_database: Callable[[], TestDatabase]) -> TestDatabase:
    database = fresh_database()
    ask(database.server_url, INSERT_EVENT)
    return database


def test_the_serving_role_can_do_no_more_than_append(written: TestDatabase) -> None:
    """Whoever serves can neither alter events nor remove what prevents it."""
    for statement in TAMPERING + TAKING_AWAY:
        with pytest.raises(errors.InsufficientPrivilege):
            ask(written.server_url, statement)
    assert len(ask(written.server_url, "SELECT 1 AS one FROM events")) == 1


def test_the_owner_is_refused_by_the_trigger(written: TestDatabase) -> None:
    """Ownership does not open the log."""
    for statement in TAMPERING:
        with pytest.raises(errors.RestrictViolation):
            ask(written.owner_url, statement)


def test_replica_mode_opens_no_back_door(written: TestDatabase) -> None:
    """Not even a superuser who switches ordinary triggers off can alter events."""
    with psycopg.connect(written.admin_url, autocommit=True) as connection:
        if connection.info.parameter_status("is_superuser") != "on":
            pytest.skip("the role of --dsn is no superuser")
        connection.execute("SET session_replication_role = replica")
        for statement in TAMPERING:
            with pytest.raises(errors.RestrictViolation):
                connection.execute(statement.encode())


def test_privileges_are_set_anew(written: TestDatabase) -> None:
    """A privilege that somebody gave the serving role in passing is gone after migrating."""
    ask(written.owner_url, f"GRANT ALL ON events TO {ROLE}")
    ask(written.owner_url, "GRANT UPDATE ON events TO PUBLIC")
    migrate(written.owner_url, serving_role=ROLE)
    with pytest.raises(errors.InsufficientPrivilege):
        ask(written.server_url, TAMPERING[0])


def test_the_serving_role_uses_every_other_table(written: TestDatabase) -> None:
    """Ordinary reading and writing works on all tables that are not the log's own."""
    own = {"events", "partitions", "schema_migrations"}
    tables = ask(written.owner_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    names = {row["tablename"] for row in tables} - own
    assert "sites" in names
    for name in names:
        ask(written.server_url, f"DELETE FROM {name}")


def test_the_owners_function_touches_nobodys_temporary_tables(written: TestDatabase) -> None:
    """A temporary table in the journal's name cannot get its trigger run by the owner."""
    day = "floor(extract(epoch FROM clock_timestamp()) / 86400)::int + 5"
    with psycopg.connect(written.server_url, autocommit=True) as connection:
        row = connection.execute(f"SELECT lpad((({day}) % 32)::text, 2, '0')").fetchone()
        assert row is not None
        name = f"delivery_attempts_{row[0]}"
        connection.execute(f"CREATE TEMPORARY TABLE {name} AS SELECT 1 AS row")
        connection.execute(f"GRANT ALL ON {name} TO PUBLIC")
        connection.execute("SELECT forget_delivery_attempts(7)")
        assert connection.execute(f"SELECT count(*) FROM pg_temp.{name}").fetchone() == (1,)


def test_only_who_serves_calls_the_owners_function(written: TestDatabase) -> None:
    """PUBLIC may not empty the journal."""
    [row] = ask(
        written.owner_url,
        "SELECT coalesce(bool_or(grantee = 0), false) AS everybody FROM pg_proc, "
        "aclexplode(proacl) WHERE proname = 'forget_delivery_attempts'",
    )
    assert not row["everybody"]


TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"


def test_every_table_of_the_ledger_has_its_privileges_listed(
    empty_database: TestDatabase,
) -> None:
    """What the migrations create and what PRIVILEGES lists is the same: no table is forgotten."""
    migrate(empty_database.owner_url)
    created = {row["tablename"] for row in ask(empty_database.owner_url, TABLES)}
    assert created == PRIVILEGES.keys()


STRANGERS = """
    CREATE TABLE ours (secret text);
    CREATE TABLE salaries (amount integer);
    GRANT SELECT ON salaries TO PUBLIC;
    CREATE SCHEMA house;
    CREATE TABLE house.ours (secret text);
"""


def test_a_strangers_table_keeps_its_privileges(empty_database: TestDatabase) -> None:
    """The ledger grants nothing on a table that is not its own, and takes nothing from it."""
    url = empty_database.owner_url
    ask(url, STRANGERS)
    before = ask(url, "SELECT oid, relacl::text FROM pg_class WHERE relkind = 'r' ORDER BY 1")
    migrate(url, serving_role=ROLE)
    after = ask(url, "SELECT oid, relacl::text FROM pg_class WHERE relkind = 'r' ORDER BY 1")
    assert [row for row in after if row["oid"] in {old["oid"] for old in before}] == before
    with pytest.raises(errors.InsufficientPrivilege):
        ask(empty_database.server_url, "SELECT secret FROM ours")


def test_the_schema_that_holds_the_tables_is_the_one_that_is_granted(
    empty_database: TestDatabase,
) -> None:
    """In a schema of its own the ledger is served, and its tables' namesakes are left alone."""
    ask(empty_database.owner_url, STRANGERS + "CREATE TABLE sites (n integer);")
    owner_url, server_url = (
        conninfo.make_conninfo(url, options="-c search_path=house,public")
        for url in (empty_database.owner_url, empty_database.server_url)
    )
    migrate(owner_url, serving_role=ROLE)
    assert ask(server_url, "SELECT site_id FROM sites") == []
    for statement in ("SELECT n FROM public.sites", "SELECT secret FROM house.ours"):
        with pytest.raises(errors.InsufficientPrivilege):
            ask(server_url, statement)
