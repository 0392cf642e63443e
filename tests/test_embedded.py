"""The embedded server: started, shared, killed in every way, and found again with its data."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from ledger.embedded import EmbeddedServer, binaries, server, wheel
from ledger.embedded.account import copy_of
from ledger.embedded.place import LONGEST_SOCKET_DIRECTORY, Place
from ledger.errors import ConfigError, EmbeddedServerError

ROOT = os.geteuid() == 0
CHECKOUT = Path(__file__).parents[1]

USER = """
import signal, sys
# Tests that run in the background of a shell inherit that Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from ledger.embedded import EmbeddedServer
with EmbeddedServer.open(Path(sys.argv[1])) as server:
    print(server.owner_url, flush=True)
    sys.stdin.read()
"""


class User:
    """Another process that has the server open until it is told, or killed."""

    def __init__(
        self, data_dir: Path, *, before: Sequence[str | Path] = (), **options: Any
    ) -> None:
        self.process = subprocess.Popen(
            [*before, sys.executable, "-c", USER, data_dir, CHECKOUT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def url(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def end(self) -> str:
        """Let it close the server; its standard error."""
        return self.process.communicate(timeout=60)[1]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


def ask(url: str, statement: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def until(look: Callable[[], Any]) -> Any:
    """What ``look`` finds, once it finds something."""
    deadline = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come to pass"
    return found


def place_of(data_dir: Path) -> Place:
    return Place(data_dir.resolve() / "postgres")


def keeper_of(data_dir: Path) -> int:
    return int(place_of(data_dir).read_state()["keeper"])


def postmaster_of(data_dir: Path) -> int:
    return int((place_of(data_dir).cluster / "postmaster.pid").read_text().split()[0])


def await_end(data_dir: Path, *names: str) -> None:
    """Wait until no process of the server is alive, nor its keeper; or one of them only."""
    for name in names or ("server", "keeper"):
        lock = place_of(data_dir).lock(name)
        fcntl.flock(lock.descriptor, fcntl.LOCK_EX)
        lock.close()


def remember(url: str) -> None:
    ask(url, "CREATE TABLE memory (word text)")
    ask(url, "INSERT INTO memory VALUES ('kept')")


def remembers(url: str) -> bool:
    return ask(url, "SELECT word FROM memory") == [{"word": "kept"}]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server that was created, used and stopped."""
    directory = tmp_path_factory.mktemp("original")
    with EmbeddedServer.open(directory) as started:
        remember(started.owner_url)
    await_end(directory)
    return directory


@pytest.fixture
def data_dir(original: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the original, on which nothing is left running."""
    directory = tmp_path / "data"
    shutil.copytree(original, directory)
    yield directory
    await_end(directory)


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a system tool fail as if it were forbidden, for this test and its children."""

    def forbid(tool: str) -> None:
        place = tmp_path / "tools"
        place.mkdir(exist_ok=True)
        (place / tool).write_text("#!/bin/sh\nexit 1\n")
        (place / tool).chmod(0o755)
        monkeypatch.setenv("PATH", str(place), prepend=os.pathsep)

    return forbid


def test_the_server_has_a_database_an_owner_and_a_serving_role(data_dir: Path) -> None:
    """The URLs lead to the database `ledger`, as its owner and as a role that owns nothing."""
    facts = """
        SELECT current_database() AS database, current_user AS role,
               pg_get_userbyid(datdba) AS owner, pg_encoding_to_char(encoding) AS encoding,
               datcollate AS collation, rolsuper OR rolcreatedb OR rolcreaterole AS mighty,
               pg_has_role(current_user, datdba, 'MEMBER') AS owns,
               has_schema_privilege('public', 'CREATE') AS creates
        FROM pg_database, pg_roles
        WHERE datname = current_database() AND rolname = current_user
    """
    common = {
        "database": "ledger",
        "owner": "ledger_owner",
        "encoding": "UTF8",
        "collation": "C",
        "mighty": False,
    }
    with EmbeddedServer.open(data_dir) as opened:
        assert ask(opened.owner_url, facts) == [
            {**common, "role": "ledger_owner", "owns": True, "creates": True}
        ]
        assert ask(opened.server_url, facts) == [
            {**common, "role": "ledger_server", "owns": False, "creates": False}
        ]


def test_the_server_keeps_what_it_acknowledged_and_listens_on_no_network(data_dir: Path) -> None:
    """Durability is on, and the one way in is a socket in a directory closed to others."""
    names = ("fsync", "full_page_writes", "synchronous_commit", "listen_addresses", "TimeZone")
    with EmbeddedServer.open(data_dir) as opened:
        found = [ask(opened.server_url, f"SHOW {name}")[0].popitem()[1] for name in names]
        assert found == ["on", "on", "on", "", "UTC"]
        superuser = opened.url("postgres")
        directory = Path(ask(superuser, "SHOW unix_socket_directories")[0].popitem()[1])
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(place_of(data_dir).home.stat().st_mode) == 0o700


def test_the_urls_serve_psql_and_pgbench(data_dir: Path) -> None:
    """The programs that come with the server understand its URLs."""
    with EmbeddedServer.open(data_dir) as opened:
        for command in (["psql", "-Atc", "SELECT 1"], ["pgbench", "-i", "-s", "1", "-q"]):
            program, *arguments = command
            subprocess.run(
                [binaries() / program, *arguments, opened.owner_url],
                check=True,
                capture_output=True,
            )


@pytest.mark.parametrize(
    "name", ["with space, comma % and ümlaut", "long" * (LONGEST_SOCKET_DIRECTORY // 4)]
)
def test_any_path_will_do(tmp_path: Path, original: Path, name: str) -> None:
    """Long paths and odd characters do not keep a socket from being found."""
    shutil.copytree(original, tmp_path / name)
    with EmbeddedServer.open(tmp_path / name) as opened:
        assert remembers(opened.owner_url)
        directory = Path(place_of(tmp_path / name).read_state()["socket_directory"])
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    await_end(tmp_path / name)
    if directory.parent == Path("/tmp"):
        directory.rmdir()


def test_commands_at_once_share_the_server_until_the_last_is_done(data_dir: Path) -> None:
    """The second joins the first's server, which stays when the first leaves."""
    first = User(data_dir)
    first.url()
    postmaster = postmaster_of(data_dir)
    with EmbeddedServer.open(data_dir) as second:
        assert postmaster_of(data_dir) == postmaster
        assert first.end() == ""
        assert remembers(second.owner_url)
        second.close()
        await_end(data_dir)
        assert not (place_of(data_dir).cluster / "postmaster.pid").exists()
        assert not place_of(data_dir).state.exists()


def test_many_first_starts_at_once_make_one_server(tmp_path: Path) -> None:
    """Processes that find an empty directory at the same moment all get the same server."""
    users = [User(tmp_path) for _ in range(4)]
    urls = {user.url() for user in users}
    assert len(urls) == 1
    remember(urls.pop())
    assert [user.end() for user in users] == [""] * 4
    await_end(tmp_path)


def test_starts_may_race_with_stops(data_dir: Path) -> None:
    """Whoever comes while the server stops gets it again, with its data."""
    for _ in range(8):
        with EmbeddedServer.open(data_dir) as opened:
            assert remembers(opened.owner_url)


def test_the_starter_leaves_nothing_behind_that_others_wait_for(data_dir: Path) -> None:
    """Neither the end of the starter's output nor its Ctrl-C depends on the server it began."""
    starter = User(data_dir, start_new_session=True)
    url = starter.url()
    with EmbeddedServer.open(data_dir):
        os.killpg(starter.process.pid, signal.SIGINT)
        assert "KeyboardInterrupt" in starter.end()  # Reads both pipes to their ends.
        assert remembers(url)


def test_a_killed_user_leaves_the_server_to_nobody(data_dir: Path) -> None:
    """The server stops when its last user was killed."""
    user = User(data_dir)
    user.url()
    user.kill()
    await_end(data_dir)


@pytest.mark.parametrize("tool", [None, "setpriv"])
def test_a_killed_keeper_is_followed_by_another(
    data_dir: Path, without: Callable[[str], None], tool: str | None
) -> None:
    """The server without keeper leaves, by itself or when asked, and the next has its data."""
    if tool:
        without(tool)
    with EmbeddedServer.open(data_dir):
        orphan, keeper = postmaster_of(data_dir), keeper_of(data_dir)
        os.kill(keeper, signal.SIGKILL)
        await_end(data_dir, "keeper")
        with EmbeddedServer.open(data_dir) as opened:
            assert remembers(opened.owner_url)
            assert postmaster_of(data_dir) != orphan
            assert keeper_of(data_dir) != keeper


def test_a_killed_server_is_started_again_for_its_users(data_dir: Path) -> None:
    """The keeper brings back a server that died, without any user opening it anew."""
    with EmbeddedServer.open(data_dir) as opened:
        dead = postmaster_of(data_dir)
        os.kill(dead, signal.SIGKILL)

        def back() -> bool:
            try:
                return remembers(opened.owner_url)
            except psycopg.OperationalError:
                return False

        until(lambda: back() and postmaster_of(data_dir) != dead)
        with EmbeddedServer.open(data_dir) as again:
            assert remembers(again.owner_url)


def test_nothing_is_lost_when_everything_is_killed(data_dir: Path) -> None:
    """After kill -9 of user, keeper and server the next open has what was acknowledged."""
    user = User(data_dir)
    ask(user.url(), "INSERT INTO memory VALUES ('last word')")
    for number in (keeper_of(data_dir), postmaster_of(data_dir)):
        os.kill(number, signal.SIGKILL)
    user.kill()
    await_end(data_dir, "keeper")
    with EmbeddedServer.open(data_dir) as opened:
        assert {"word": "last word"} in ask(opened.owner_url, "SELECT word FROM memory")


def test_a_stale_mark_of_a_living_process_is_no_server(data_dir: Path) -> None:
    """A process number that somebody else has by now does not keep the server from starting."""
    mark = place_of(data_dir).cluster / "postmaster.pid"
    mark.write_text(f"{os.getpid()}\n{mark.parent}\n1\n5432\n\n\n\nready   \n")
    with EmbeddedServer.open(data_dir) as opened:
        assert remembers(opened.owner_url)


def kill_during_creation(data_dir: Path) -> bool:
    """Kill everything while the database is created; false where the creation was faster."""
    user = User(data_dir)
    state = place_of(data_dir)
    until((state.cluster.with_suffix(".new") / "PG_VERSION").exists)
    os.kill(keeper_of(data_dir), signal.SIGKILL)
    user.kill()
    await_end(data_dir, "keeper")
    return not state.cluster.exists()


def test_a_creation_that_was_killed_is_begun_anew(tmp_path: Path) -> None:
    """Killing everything while the database is created leaves nothing that stands in the way."""
    attempts = (tmp_path / str(number) for number in range(20))
    data_dir = next(attempt for attempt in attempts if kill_during_creation(attempt))
    with EmbeddedServer.open(data_dir) as opened:
        remember(opened.owner_url)
        assert not place_of(data_dir).cluster.with_suffix(".new").exists()
    await_end(data_dir)


def test_a_long_start_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits hears what is going on."""
    monkeypatch.setattr(server, "PATIENCE", 0.0)
    said: list[str] = []
    with EmbeddedServer.open(tmp_path, progress=said.append):
        assert "Creating the embedded PostgreSQL database …" in said
    await_end(tmp_path)


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """The message names the directory and the variable that moves it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/data cannot be used.*LEDGER_DATA_DIR"):
        EmbeddedServer.open(tmp_path / "file" / "data")


def test_a_missing_wheel_is_named_with_the_way_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the wheel the message names the extra, and the variable for another server."""
    monkeypatch.setattr(wheel, "SOURCES", (("no_such_wheel", "bin"),))
    with pytest.raises(EmbeddedServerError, match=r"extra `embedded`.*LEDGER_DATABASE_URL"):
        EmbeddedServer.open(tmp_path)


def test_data_of_another_major_version_is_refused(data_dir: Path) -> None:
    """A directory made by another PostgreSQL is left alone, and both versions are named."""
    (place_of(data_dir).cluster / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedServerError, match=r"made by PostgreSQL 9 .* server is \d\d"):
        EmbeddedServer.open(data_dir)


def test_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    """A directory that is no database is not written into."""
    (place_of(tmp_path).cluster / "family photos").mkdir(parents=True)
    with pytest.raises(EmbeddedServerError, match="is not a PostgreSQL data directory"):
        EmbeddedServer.open(tmp_path)


def test_a_server_that_cannot_start_is_quoted(data_dir: Path) -> None:
    """The message holds the end of the server's own log."""
    with (place_of(data_dir).cluster / "postgresql.conf").open("a") as settings:
        settings.write("\nno_such_setting = 1\n")
    with pytest.raises(EmbeddedServerError, match=r"cannot be started.*no_such_setting"):
        EmbeddedServer.open(data_dir)


SMALL_DISK = """
mount -t tmpfs -o size="$1" none "$2" && cp -r "$3/." "$2" && cat /dev/zero > "$2/rest" 2>/dev/null
shift 3; exec "$@"
"""


@pytest.mark.parametrize("size", ["20m", "400m"], ids=["to create", "to start"])
def test_a_full_disk_is_named(tmp_path: Path, original: Path, size: str) -> None:
    """Where the space does not suffice, to create or only to start, the message says so."""
    content = original if size == "400m" else tmp_path
    alone = ["unshare", "--mount", *([] if ROOT else ["--user", "--map-root-user"])]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is forbidden here")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = [*alone, "sh", "-c", SMALL_DISK, "sh", size, disk, content]
    user = User(disk, before=script)
    assert "The disk is full" in user.end()


def test_another_wheel_can_take_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second source of programs serves as the first does."""
    monkeypatch.setattr(wheel, "SOURCES", wheel.SOURCES[1:])
    try:
        binaries()
    except EmbeddedServerError:
        pytest.skip("the other wheel is not installed")
    with EmbeddedServer.open(tmp_path) as opened:
        remember(opened.owner_url)
    await_end(tmp_path)


def _is_open_to_all(*paths: Path) -> bool:
    return all(
        directory.stat().st_mode & 0o001 for path in paths for directory in path.resolve().parents
    )


@pytest.mark.skipif(not ROOT, reason="an ordinary user runs every other test as one")
@pytest.mark.parametrize("uid", [65534, 54321], ids=["named", "without a name"])
def test_an_ordinary_user_has_a_server(data_dir: Path, uid: int) -> None:
    """A user who is not root, even one that /etc/passwd does not know, has the server."""
    mapped = ["unshare", "--user", f"--map-user={uid}", f"--map-group={uid}", "--"]
    if subprocess.run([*mapped, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces are forbidden here")
    for directory in (data_dir, data_dir / "new"):
        user = User(directory, before=mapped)
        url = user.url()
        assert ask(url, "SELECT 1 AS one") == [{"one": 1}]
        assert user.end() == ""
        await_end(directory)


@pytest.mark.skipif(not ROOT, reason="only root can become somebody else")
def test_root_may_be_the_guest_of_an_ordinary_user() -> None:
    """What root starts or joins in somebody's data directory stays that user's own."""
    if not _is_open_to_all(Path(sys.executable), binaries() / "postgres", CHECKOUT / "ledger"):
        pytest.skip("other users cannot reach this installation")
    host = 65534
    with tempfile.TemporaryDirectory(prefix="settings-ledger-test-") as home:
        os.chown(home, host, host)
        directory = Path(home) / "data"
        user = User(directory, user=host, group=host, extra_groups=[])
        remember(user.url())
        with EmbeddedServer.open(directory) as guest:
            assert remembers(guest.owner_url)
        assert user.end() == ""
        await_end(directory)
        with EmbeddedServer.open(directory):
            user = User(directory, user=host, group=host, extra_groups=[])
            assert remembers(user.url())
            assert user.end() == ""
        await_end(directory)


@pytest.mark.skipif(not ROOT, reason="only root needs this")
def test_root_has_a_server_where_namespaces_are_forbidden(
    data_dir: Path,
    tmp_path: Path,
    without: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As another account, though only root may enter the directories of data and programs."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    package = binaries().parents[1]
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, closed / part.name)
    programs = closed / binaries().relative_to(package.parent)
    monkeypatch.setattr(server, "binaries", lambda: programs)
    without("unshare")
    try:
        for directory in (data_dir, tmp_path / "new"):
            with EmbeddedServer.open(directory) as opened:
                if directory == data_dir:
                    assert remembers(opened.owner_url)
                running = Path(f"/proc/{postmaster_of(directory)}")
                assert running.stat().st_uid == place_of(directory).cluster.stat().st_uid != 0
            await_end(directory)
        monkeypatch.undo()
        with EmbeddedServer.open(data_dir) as opened:
            assert remembers(opened.owner_url)
    finally:
        shutil.rmtree(copy_of(programs))


@pytest.mark.skipif(not ROOT, reason="only root needs this")
def test_root_without_any_way_is_told(data_dir: Path, without: Callable[[str], None]) -> None:
    """Where root can become nobody else, the message says what to do."""
    without("unshare")
    without("setpriv")
    with pytest.raises(EmbeddedServerError, match=r"refuses to run as root.*ordinary user"):
        EmbeddedServer.open(data_dir)
