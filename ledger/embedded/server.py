"""What a user of the embedded server holds: its place in the server's life, and its URLs."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from ledger.embedded.cluster import DATABASE, OWNER, SERVER
from ledger.embedded.place import FileLock, Place
from ledger.embedded.wheel import binaries
from ledger.errors import ConfigError, EmbeddedServerError

PULSE = 0.01
PATIENCE = 2.0
"""Seconds after which a start is worth a word to whoever waits."""
ATTEMPTS = 3
SPACE_TO_START = 1
"""Megabytes: without them not even a word about what failed can be left."""
LONGEST_STOP = 120.0
"""Seconds after which a server that neither answers nor ends is an error."""

_KEEPER = """\
import sys
sys.path.insert(0, sys.argv.pop(1))
from ledger.embedded.keeper import main
main()
"""


class EmbeddedServer:
    """The server of one data directory, in use until ``close()`` or the end of the process.

    Any number of processes may have it open at once; it runs while at least one does.
    """

    def __init__(self, place: Place, users: FileLock, state: dict[str, Any]) -> None:
        self._place = place
        self._users = users
        self._directory: str = state["socket_directory"]
        self._port: int = state["port"]

    @classmethod
    def open(
        cls, data_dir: Path, *, progress: Callable[[str], None] | None = None
    ) -> EmbeddedServer:
        """Join the server of ``data_dir``, or start it, and create it at the first time.

        ``progress`` is called with a sentence when this takes longer than two seconds.
        Raises ConfigError for a directory that cannot be used, EmbeddedServerError otherwise.
        """
        programs = binaries()
        place = Place(data_dir.expanduser().resolve() / "postgres")
        waiting = _Waiting(progress)
        users = starters = None
        try:
            place.make()
            users = place.lock("users")
            while not users.try_shared():
                waiting.pause("Waiting for the embedded PostgreSQL server to stop", LONGEST_STOP)
            starters = place.lock("start")
            while not starters.try_exclusive():
                waiting.pause(_doing(place))
            state = _running(place, programs, waiting)
        except OSError as error:
            _close(users)
            raise _unusable(data_dir, error) from None
        except BaseException:
            _close(users)
            raise
        finally:
            _close(starters)
        return cls(place, users, state)

    def url(self, role: str, database: str = DATABASE) -> str:
        """A URL for psycopg, psql and pgbench, for any role and database of this server."""
        where = f"host={quote(self._directory, safe='')}&port={self._port}"
        return f"postgresql://{quote(role, safe='')}@/{quote(database, safe='')}?{where}"

    @property
    def owner_url(self) -> str:
        """The ledger's database as its owner, who migrates it."""
        return self.url(OWNER)

    @property
    def server_url(self) -> str:
        """The ledger's database as the role that serves."""
        return self.url(SERVER)

    def close(self) -> None:
        """Use the server no more; it stops, a moment later, when this was its last user."""
        self._users.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Waiting:
    """The patience of one ``open``: pauses, and says what goes on when it takes long."""

    def __init__(self, progress: Callable[[str], None] | None) -> None:
        self._progress = progress
        self._began = time.monotonic()
        self._said = ""

    def pause(self, doing: str, limit: float | None = None) -> None:
        waited = time.monotonic() - self._began
        if limit is not None and waited > limit:
            raise EmbeddedServerError(f"{doing} took longer than {limit:.0f} seconds.")
        if self._progress and waited > PATIENCE and doing != self._said:
            self._said = doing
            self._progress(f"{doing} …")
        time.sleep(PULSE)


def _running(place: Place, programs: Path, waiting: _Waiting) -> dict[str, Any]:
    """The state of a server that is ready, started here if nobody keeps it."""
    started = 0
    while True:
        keeper = place.lock("keeper")
        try:
            unkept = keeper.try_exclusive()
            state = place.read_state()
            if not unkept and state.get("ready") and _answers(state):
                return state
            if unkept and started and "error" in state:
                raise EmbeddedServerError(state["error"])
            if unkept and started == ATTEMPTS:
                place.need_space(SPACE_TO_START)
                raise EmbeddedServerError(
                    f"The embedded PostgreSQL server ended at its start: see {place.log}."
                )
            if unkept:
                started += 1
                place.forget_state()
                _start_keeper(place, programs, keeper)
        finally:
            keeper.close()
        if state.get("ready"):
            waiting.pause(f"Waiting for the server of process {state['keeper']}", LONGEST_STOP)
        else:
            waiting.pause(_doing(place))


def _answers(state: dict[str, Any]) -> bool:
    """Whether the server is there: its keeper may not have noticed yet that it died."""
    with socket.socket(socket.AF_UNIX) as caller:
        try:
            caller.connect(f"{state['socket_directory']}/.s.PGSQL.{state['port']}")
        except OSError:
            return False
    return True


def _doing(place: Place) -> str:
    doing = place.read_state().get("doing", "Starting the embedded PostgreSQL server")
    return str(doing)


def _start_keeper(place: Place, programs: Path, keeper: FileLock) -> None:
    """Start the keeper and hand it the lock that makes it the only one."""
    # Without the site's packages, of which it needs none, it starts twice as fast.
    interpreter = [sys.executable, "-S", "-P", "-c", _KEEPER]
    ended = subprocess.run(
        [*interpreter, Path(__file__).parents[2], place.home, programs],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(keeper.descriptor,),
        check=False,
    )
    if ended.returncode != 0:
        raise EmbeddedServerError(
            f"The keeper of the embedded PostgreSQL server cannot be started with "
            f"{sys.executable} (exit status {ended.returncode}): see {place.log}."
        )


def _unusable(data_dir: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"The data directory {data_dir} cannot be used ({error.strerror}: {error.filename}): "
        "set LEDGER_DATA_DIR to a directory that you may write to."
    )


def _close(lock: FileLock | None) -> None:
    if lock is not None:
        lock.close()
