"""The partition's lock in the hands of a test, and who waits for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from faults.waiting import eventually
from ledger.database import PARTITION_LOCK
from ledger.writer import Writer


class HeldLock:
    """A session that holds a partition's lock, and looks around meanwhile."""

    def __init__(self, url: str, partition: int) -> None:
        self.partition = partition
        self.holder = psycopg.connect(url)
        self.watcher = psycopg.connect(url, autocommit=True)
        self.holder.execute("SELECT pg_advisory_xact_lock(%s, %s)", (PARTITION_LOCK, partition))

    def waiting(self) -> list[int]:
        """The process ids of the backends that wait for the lock."""
        rows = self.watcher.execute(
            """
            SELECT pid FROM pg_locks
            WHERE locktype = 'advisory' AND NOT granted
              AND classid = %s AND objid = %s AND objsubid = 2
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            """,
            (PARTITION_LOCK, self.partition),
        )
        return [pid for (pid,) in rows]

    def until_waiting(self, writers: int = 1) -> list[int]:
        """Return once so many backends wait for the lock."""
        return eventually(lambda: len(pids := self.waiting()) >= writers and pids)

    def until_clock(self, seconds: float) -> None:
        """Return once the database's clock has moved on by ``seconds``."""
        (goal,) = self.watcher.execute(
            "SELECT clock_timestamp() + make_interval(secs => %s)", (seconds,)
        ).fetchone()
        eventually(
            lambda: self.watcher.execute("SELECT clock_timestamp() > %s", (goal,)).fetchone()[0]
        )

    def release(self) -> None:
        """Let the next one in; what this session wrote is committed."""
        self.holder.commit()

    def close(self) -> None:
        """Release, and leave."""
        self.holder.close()
        self.watcher.close()


@contextmanager
def held_lock(url: str, partition: int = 0) -> Iterator[HeldLock]:
    """Hold the partition's lock for the length of the block, or until released."""
    lock = HeldLock(url, partition)
    try:
        yield lock
    finally:
        lock.close()


def cut(writer: Writer) -> int:
    """Cut the client's side of the writer's connection; returns the backend left alone."""
    connection = writer._link.connection
    pid = connection.info.backend_pid
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
    return pid


def terminate_writers(connection: psycopg.Connection) -> int:
    """End the backend of every writer of this database; returns how many there were."""
    return connection.execute(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'settings-ledger writer%'
        """
    ).rowcount
