"""Where the embedded server lives: its files, its locks, and the word its keeper leaves."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.errors import EmbeddedServerError

PORT = 5432
"""Names the socket file and nothing else: the server listens on no network."""

# A socket's path holds 103 bytes on the strictest system; "/.s.PGSQL.5432" takes 14.
LONGEST_SOCKET_DIRECTORY = 88


class FileLock:
    """A lock on a file, shared or exclusive, that the system drops when its holder is gone.

    It belongs to the open file: a child that inherits the descriptor holds it too, so a lock
    handed to a whole family of processes is free when the last of them has died.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_shared(self) -> bool:
        """Take the lock beside other shared holders; False while someone holds it alone."""
        return self._try(fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        """Take the lock alone; False while anyone else holds it."""
        return self._try(fcntl.LOCK_EX)

    def _try(self, mode: int) -> bool:
        try:
            fcntl.flock(self.descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Let go of the file, and of the lock unless another process inherited it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


@dataclass(frozen=True)
class Place:
    """The files of one embedded server, all within ``home`` (``<data_dir>/postgres``).

    Locks: ``users`` is shared by all who use the server; ``start`` is held while one of them
    finds or starts the keeper; ``keeper`` is held by the keeper alone; ``server`` by the
    keeper and every process of the server, so that it is free only when all of them are gone.
    """

    home: Path

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own data directory."""
        return self.home / "cluster"

    @property
    def log(self) -> Path:
        """What the server and the keeper have to say."""
        return self.home / "server.log"

    @property
    def state(self) -> Path:
        """The keeper's word to those who wait: what it does, where the server is, what failed."""
        return self.home / "server.json"

    def lock(self, name: str) -> FileLock:
        """Open the lock ``name``, not yet taken. Raises OSError."""
        path = self.home / f"{name}.lock"
        lock = FileLock(path)
        self.give(path)
        return lock

    def make(self) -> None:
        """Create the directory, closed to other users. Raises OSError."""
        self.home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home.mkdir(mode=0o700, exist_ok=True)
        self.give(self.home)

    def give(self, path: Path) -> None:
        """Let the owner of the data directory own ``path``: root may be a guest there."""
        if os.geteuid() == 0:
            host = self.home.parent.stat()
            if path.stat().st_uid != host.st_uid:
                os.chown(path, host.st_uid, host.st_gid)

    def read_state(self) -> dict[str, Any]:
        """The keeper's last word; empty when there is none."""
        try:
            state: dict[str, Any] = json.loads(self.state.read_bytes())
        except FileNotFoundError:
            return {}
        return state

    def write_state(self, **state: object) -> None:
        """Leave a word, and the keeper's process number, whole or not at all."""
        written = self.state.with_suffix(".new")
        written.write_text(json.dumps({**state, "keeper": os.getpid()}))
        self.give(written)
        written.replace(self.state)

    def forget_state(self) -> None:
        """Take back the last word."""
        self.state.unlink(missing_ok=True)

    def need_space(self, megabytes: int) -> None:
        """Raise EmbeddedServerError when the disk has less than this left."""
        free = shutil.disk_usage(self.home).free // 1_000_000
        if free < megabytes:
            raise EmbeddedServerError(
                f"The disk is full: {self.home} has {free} MB left and the embedded PostgreSQL "
                f"server needs {megabytes} MB. Make room, or point LEDGER_DATA_DIR elsewhere."
            )

    def socket_directory(self) -> Path:
        """A directory for the server's socket that only its owner can enter, made if needed.

        Within ``home``, unless that path is too long for a socket or holds a character that
        lists of directories are split at; then a short one under /tmp that is this
        directory's own. Raises OSError.
        """
        near = self.home / "socket"
        if len(os.fsencode(near)) <= LONGEST_SOCKET_DIRECTORY and not set(str(near)) & set(',"'):
            near.mkdir(mode=0o700, exist_ok=True)
            near.chmod(0o700)
            self.give(near)
            return near
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        far = Path("/tmp") / f"settings-ledger-{os.geteuid()}-{name}"  # noqa: S108
        far.mkdir(mode=0o700, exist_ok=True)
        status = far.lstat()
        private = status.st_uid == os.geteuid() and status.st_mode & 0o170077 == 0o040000
        if not private:  # Somebody else was there first, perhaps to listen in.
            far = Path(tempfile.mkdtemp(prefix="settings-ledger-", dir="/tmp"))
        self.give(far)
        return far
