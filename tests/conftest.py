"""What every test can ask for: databases of its own, and no trace of the caller's shell."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import psycopg
import pytest
from faults.opening import opened
from psycopg import conninfo, errors, sql

from ledger import Ledger
from ledger.embedded import EmbeddedServer
from ledger.migrate import migrate

SERVING_ROLE = "ledger_server"


@dataclass(frozen=True)
class TestDatabase:
    """One migrated database: as the role that serves, as its owner, as whoever may do more.

    ``admin_url`` is a superuser's on the embedded server, and the owner's under ``--dsn``.
    """

    __test__ = False

    name: str
    server_url: str
    owner_url: str
    admin_url: str


class TestServer:
    """The PostgreSQL server of this test session: makes databases and drops them."""

    __test__ = False

    def __init__(self, url: Callable[[str, str], str], *, owner: str, admin: str) -> None:
        self._url, self._owner, self._admin = url, owner, admin

    def database(self, name: str) -> TestDatabase:
        """The URLs of a database, there or not."""
        roles = (SERVING_ROLE, self._owner, self._admin)
        return TestDatabase(name, *(self._url(role, name) for role in roles))

    def create(self, purpose: str, template: str = "template0") -> TestDatabase:
        """Create a database as a copy of ``template``."""
        name = f"{purpose}_{uuid.uuid4().hex[:12]}"
        self._do(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
                *map(sql.Identifier, (name, template, self._owner))
            )
        )
        return self.database(name)

    def drop(self, database: TestDatabase) -> None:
        """Drop a database, and whoever is still connected with it."""
        self._do(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database.name)))

    def _do(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._url(self._admin, "postgres"), autocommit=True) as connection:
            connection.execute(statement)

    @contextmanager
    def lent(self, purpose: str, template: str = "template0") -> Iterator[TestDatabase]:
        """A database for the length of the block."""
        database = self.create(purpose, template)
        try:
            yield database
        finally:
            self.drop(database)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--dsn",
        help="run on this PostgreSQL server instead of the embedded one: the URL of a role that "
        "may create databases and roles",
    )
    parser.addoption(
        "--random-kills",
        type=int,
        default=20,
        help="how often publishers are killed at random moments (tests/faults)",
    )


# A busy machine is slow now and then; a slow example is no fault of the law that it tries.
hypothesis.settings.register_profile("ledger", deadline=None)
hypothesis.settings.load_profile("ledger")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "fault(name, guarantees): a row of the matrix in tests/faults/README.md"
    )
    for name in [name for name in os.environ if name.startswith("LEDGER_")]:
        del os.environ[name]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep each test's configuration to itself."""
    monkeypatch.setenv("LEDGER_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture(scope="session")
def postgres(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestServer]:
    """The session's server; the workers of pytest-xdist share one."""
    dsn = request.config.getoption("--dsn")
    if dsn:
        yield _elsewhere(dsn)
        return
    directory = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        directory = directory.parent
    with EmbeddedServer.open(directory / "server") as server:
        yield TestServer(server.url, owner="ledger_owner", admin="postgres")


def _elsewhere(dsn: str) -> TestServer:
    """The server of ``--dsn``, with a serving role that can do no more than it should."""
    given = conninfo.conninfo_to_dict(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        owner = connection.info.user
        role, password = sql.Identifier(SERVING_ROLE), sql.Literal(SERVING_ROLE)
        try:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))
        except (errors.DuplicateObject, errors.UniqueViolation):
            pass  # An earlier session or another worker left it.

    def url(role: str, database: str) -> str:
        as_role = {"user": role, "password": role} if role == SERVING_ROLE else {}
        return conninfo.make_conninfo(**{**given, **as_role, "dbname": database})

    return TestServer(url, owner=owner, admin=owner)


@pytest.fixture(scope="session")
def template(postgres: TestServer) -> Iterator[TestDatabase]:
    """A migrated database that nobody writes to, to be copied."""
    with postgres.lent("ledger_template") as database:
        migrate(database.owner_url, serving_role=SERVING_ROLE)
        yield database


@pytest.fixture(scope="session")
def shared_database(postgres: TestServer, template: TestDatabase) -> Iterator[TestDatabase]:
    """One database for all tests that use sites of their own and mind nobody else's."""
    with postgres.lent("ledger_shared", template.name) as database:
        yield database


@pytest.fixture(scope="session")
def database_url(shared_database: TestDatabase) -> str:
    """The shared database as the role that serves."""
    return shared_database.server_url


@pytest.fixture(scope="session")
def owner_url(shared_database: TestDatabase) -> str:
    """The shared database as its owner."""
    return shared_database.owner_url


@pytest.fixture
def fresh_database(
    postgres: TestServer, template: TestDatabase
) -> Iterator[Callable[[], TestDatabase]]:
    """Make databases with an empty log, gone at the end of the test."""
    made: list[TestDatabase] = []

    def make() -> TestDatabase:
        made.append(postgres.create("ledger_fresh", template.name))
        return made[-1]

    yield make
    for database in made:
        postgres.drop(database)


@pytest.fixture
def database(fresh_database: Callable[[], TestDatabase]) -> TestDatabase:
    """A database with an empty log."""
    return fresh_database()


@pytest.fixture
def ledger(database: TestDatabase) -> Iterator[Ledger]:
    """A ledger with an empty log."""
    with opened(database.server_url) as ledger:
        yield ledger


@pytest.fixture
def empty_database(postgres: TestServer) -> Iterator[TestDatabase]:
    """A database without any table, for tests of migrations."""
    with postgres.lent("ledger_empty") as database:
        yield database
