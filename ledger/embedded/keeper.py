"""The keeper: a small detached process that owns the server for as long as it has users.

Started by ``EmbeddedServer.open`` with the keeper's lock already held. It is a process of its
own, so that neither Ctrl-C nor the death of any user takes the server from the others.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import FrameType

from ledger.embedded.account import Account, choose_account
from ledger.embedded.cluster import ensure_cluster, last_lines
from ledger.embedded.place import PORT, FileLock, Place
from ledger.errors import EmbeddedServerError

PULSE = 0.05
"""Seconds between two looks at the users' lock."""
ORPHAN_GRACE = 1.0
"""Seconds that a server without keeper has to leave by itself."""
ORPHAN_LIMIT = 60.0
STOP_LIMIT = 30.0
LARGEST_LOG = 1_000_000
# A server that dies this often within so many seconds is not started again.
DEATHS, WITHIN = 3, 60.0


class Keeper:
    """Starts the server, starts it again when it dies, stops it when its last user is gone."""

    def __init__(self, place: Place, programs: Path) -> None:
        self._place = place
        self._programs = programs
        self._users = place.lock("users")
        self._server: FileLock | None = None
        self._told_to_stop = False
        signal.signal(signal.SIGTERM, self._stop_soon)

    def _stop_soon(self, _number: int, _frame: FrameType | None) -> None:
        self._told_to_stop = True

    def run(self) -> None:
        """Keep the server until nobody uses it. Raises EmbeddedServerError, OSError."""
        hold = self._take_over()
        account = choose_account(self._place, self._programs)
        ensure_cluster(self._place, account, hold)
        deaths: list[float] = []
        process = self._start(account, hold)
        while not (self._told_to_stop or self._users.try_exclusive()):
            if process.poll() is not None:
                deaths = [at for at in deaths if at > time.monotonic() - WITHIN]
                deaths.append(time.monotonic())
                if len(deaths) >= DEATHS:
                    raise EmbeddedServerError(self._failure("The server keeps dying", 0))
                process = self._start(account, self._take_over())
            time.sleep(PULSE)
        self._place.forget_state()
        _end(process)

    def _take_over(self) -> int:
        """Hold the server's lock: from here on no process of an earlier server is alive.

        Its marks are swept away, because the number of a dead process may belong to a
        living one by now, and PostgreSQL would take that for a server at work.
        """
        if self._server is not None:
            self._server.close()
        self._server = lock = self._place.lock("server")
        began = time.monotonic()
        asked = False
        while not lock.try_exclusive():
            waited = time.monotonic() - began
            if waited > ORPHAN_GRACE and not asked:
                asked = _ask_to_leave(self._place)
            if waited > ORPHAN_LIMIT:
                raise EmbeddedServerError(
                    f"An earlier PostgreSQL server still runs on {self._place.cluster} and "
                    "does not leave: stop its processes and try again."
                )
            time.sleep(PULSE)
        (self._place.cluster / "postmaster.pid").unlink(missing_ok=True)
        return lock.descriptor

    def _start(self, account: Account, hold: int) -> subprocess.Popen[bytes]:
        directory = self._place.socket_directory()
        for mark in directory.glob(".s.PGSQL.*"):
            mark.unlink()
        since = self._place.log.stat().st_size
        self._place.write_state(doing="Starting the embedded PostgreSQL server")
        process = subprocess.Popen(
            account.command(
                "postgres",
                *("-D", self._place.cluster),
                *("-c", "listen_addresses="),
                *("-c", f"unix_socket_directories={directory}"),
                *("-c", f"port={PORT}"),
            ),
            stdin=subprocess.DEVNULL,
            pass_fds=(hold,),
        )
        while not self._is_ready(process):
            if process.poll() is not None:
                raise EmbeddedServerError(self._failure("The server cannot be started", since))
            if self._told_to_stop:
                _end(process)
                raise EmbeddedServerError("The embedded PostgreSQL server was told to stop.")
            time.sleep(PULSE / 5)
        self._place.write_state(ready=True, socket_directory=str(directory), port=PORT)
        return process

    def _is_ready(self, process: subprocess.Popen[bytes]) -> bool:
        try:
            marks = (self._place.cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(marks) >= 8 and marks[0] == str(process.pid) and marks[7].strip() == "ready"

    def _failure(self, what: str, since: int) -> str:
        with self._place.log.open("rb") as log:
            log.seek(since)
            said = last_lines(log.read().decode(errors="replace"))
        return f"Embedded PostgreSQL: {what}. The end of {self._place.log}: {said}"


def _ask_to_leave(place: Place) -> bool:
    """Send an orphaned server its fast shutdown; True once there was one to ask."""
    try:
        number = int((place.cluster / "postmaster.pid").read_text().split("\n", 1)[0])
        name = Path(f"/proc/{number}/comm")
        if name.exists() and name.read_text().strip() != "postgres":
            return False
        os.kill(number, signal.SIGINT)
    except (OSError, ValueError):
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait()


def _detach(place: Place) -> None:
    """Leave the starter's session, directory and output behind."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    if place.log.exists() and place.log.stat().st_size > LARGEST_LOG:
        place.log.replace(place.log.with_suffix(".log.1"))
    log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    place.give(place.log)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)


def main() -> None:
    """``keeper HOME PROGRAMS``: what remains is said in ``server.json`` and ``server.log``."""
    place = Place(Path(sys.argv[1]))
    try:
        _detach(place)
        Keeper(place, Path(sys.argv[2])).run()
    except (EmbeddedServerError, OSError) as error:
        place.write_state(error=str(error))
    except Exception as error:  # noqa: BLE001 — whoever waits must hear of it
        traceback.print_exc()
        place.write_state(error=f"The keeper of the embedded server failed: {error!r}.")
